"""The loop of a sweep: starts runs as there is room, and decides what follows when one ends."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace

from experiments.errors import (
    LeaseHeld,
    LeaseLost,
    OutOfMemory,
    RunPaused,
    StorageError,
    WorkerDied,
)
from experiments.grid.spec import RunSpec
from experiments.scheduler.circuit_breaker import LIMIT, CircuitBreaker
from experiments.scheduler.executor import AttemptError, Executor
from experiments.scheduler.signals import (
    StopNow,
    StopRequest,
    TimeLimit,
    warnings_kept_from_children,
)
from experiments.store.attempt_records import append_to_log, record_failure
from experiments.store.files import remove, write_text
from experiments.store.lease import REMOTE_HEARTBEAT, Lease, Watch, claim
from experiments.store.ledger import Ledger
from experiments.store.rerun import delete_if_begun, find_backups
from experiments.worker.job import Job
from experiments.worker.memory import ADVICE, Reduction, reduction
from results.reading.location import exists, is_local
from results.reading.run_folder import ENDED, RunFolder, State
from tcclip.config import Execution

log = logging.getLogger(__name__)

#: How long ends are waited for at a time, and how often a run that another process works on is
#: looked at again (in a store: less often).
WAIT_SECONDS = 1.0
#: The first retry comes at once, each further one so much later than the one before.
RETRY_SECONDS = 10.0
_NO_RESULT = AttemptError(WorkerDied, "WorkerDied: its worker ended without a result")


@dataclass
class _Run:
    """A run this sweep wants to see finished."""

    spec: RunSpec
    folder: RunFolder
    execution: Execution
    #: Attempts on record when the sweep began, and failed ones since, whoever made them.
    attempts_before: int
    failures: int = 0
    reduction: Reduction | None = None
    #: Not started before then (monotonic seconds).
    not_before: float = 0.0


class Loop:
    """Starts what can be started until nothing is left to wait for."""

    def __init__(
        self,
        ledger: Ledger,
        specs: Sequence[RunSpec],
        states: Mapping[str, State],
        execution: Execution,
        make_job: Callable[..., Job],
        retries: int,
        fail_fast: bool,
        say: Callable[[str], None],
        limit: TimeLimit | None = None,
    ) -> None:
        """`make_job`: a `Job` from what a run has of its own; the rest is the same for all.

        `retries`: further attempts at a run that failed, where they may help. `fail_fast`: stop
        with the first run that failed for good.
        """
        self.ledger, self._make_job, self._print = ledger, make_job, say
        self.retries, self.fail_fast = retries, fail_fast
        unfinished = [one for one in specs if states[one.run_id] not in ENDED]
        self.runs = {
            one.run_id: self._read(one, states[one.run_id], execution) for one in unfinished
        }
        self.pending = set(self.runs)
        self.running: dict[str, Lease] = {}
        self.paused: set[str] = set()
        self.failed: dict[str, str] = {}
        #: GPUs that failed -> under how many attempts.
        self.broken_gpus: Counter[str] = Counter()
        #: Runs that `--rerun` chose and that have not begun again.
        self.backups = find_backups(ledger, {spec.run_id for spec in specs})
        remote = not is_local(ledger.out)
        self.stop = StopRequest(self._pause_running, self._say, remote, limit)
        self._breaker, self._watch = CircuitBreaker(), Watch()
        #: Held while a run is asked to pause, and while one leaves `running`.
        self._pause_lock = threading.Lock()
        #: No run is claimed before then (monotonic seconds): an error of the storage at one run
        #: is likely at the others too.
        self._no_claims_before = 0.0
        self._no_room = False

    def _read(self, spec: RunSpec, state: State, execution: Execution) -> _Run:
        folder, failure = self.ledger.folder(spec.run_id), None
        if state is not State.PLANNED:  # else there is nothing to ask a store for
            with suppress(StorageError):  # reported when the run is claimed
                failure = folder.read_failure()
        attempts = 0 if failure is None else failure.attempt
        return _Run(spec, folder, execution, attempts)

    def _say(self, text: str) -> None:
        log.info("%s", text)
        with suppress(OSError, ValueError):  # a terminal that was closed ends no sweep
            self._print(text)

    def halt(self) -> str | None:
        """Why runs were not started, if that was this sweep's decision."""
        if self.stop.time_is_up and self.stop.limit is not None:
            return f"paused in time for {self.stop.limit.cause}"
        if self.fail_fast and self.failed:
            return f"--fail-fast: {next(iter(self.failed))} failed"
        for run_id in sorted(self.pending):
            error = self._breaker.blocking_error(self.runs[run_id].spec)
            if error is not None:
                return f"{LIMIT} runs like them ended with the same: {error}"
        return None

    def run(
        self, make_executor: Callable[[], Executor], display: AbstractContextManager[object]
    ) -> None:
        """Compute runs until none is left that could finish, or the sweep is asked to stop."""
        with self.stop, suppress(StopNow):
            with warnings_kept_from_children():
                executor = make_executor()
            with display:
                try:
                    self.stop.install()  # Ray replaces the handler of SIGTERM
                    self._compute(executor)
                finally:
                    self._close(executor)

    def _compute(self, executor: Executor) -> None:
        while True:
            more = not self.stop.requested and self._start_runs(executor)
            if not self.running and not more:
                return
            if self.stop.expired:
                return
            for run_id, error in executor.ended(WAIT_SECONDS).items():
                self._attempt_ended(run_id, error)

    def _close(self, executor: Executor) -> None:
        """End what still runs and release it, so that another sweep can go on with it at once."""
        self.stop.close()
        try:
            executor.close()
        finally:
            for run_id in list(self.running):
                self.paused.add(run_id)
                self._release(run_id)

    def _pause_running(self) -> None:
        """Ask the runs in progress to save and end; called by the thread of `stop`."""
        for run_id in list(self.running):
            path = self.runs[run_id].folder.pause_request
            with self._pause_lock, suppress(StorageError):  # then the run ends without saving
                if run_id in self.running and not exists(path):
                    write_text(path, "")

    # ---- Starting ----

    def _start_runs(self, executor: Executor) -> bool:
        """Start pending runs as there is room. False if no pending run could start later either."""
        slots, now = executor.slots, time.monotonic()
        self._report_room(slots)
        possible = set(self.running)
        for run_id, run in self.runs.items():  # parents come before their children
            parent = run.spec.parent
            if run_id not in self.pending:
                continue
            if parent in self.failed:
                self._give_up(run, f"its parent run {parent} failed")
            elif parent in self.pending or parent in self.running or parent in self.paused:
                possible |= {run_id} if parent in possible else set()
            elif self._breaker.blocking_error(run.spec) is None:
                due = now >= max(run.not_before, self._no_claims_before)
                if due and len(self.running) < slots and not self.stop.requested:
                    self._start(run, executor)
                possible |= {run_id} & (self.pending | self.running.keys())
        return not self.pending.isdisjoint(possible)

    def _report_room(self, slots: int) -> None:
        no_room = slots == 0 and bool(self.pending)
        if no_room and not self._no_room:
            self._say("there is no room for a run in the cluster now; waiting until there is")
        self._no_room = no_room

    def _start(self, run: _Run, executor: Executor) -> None:
        """Claim `run` and start it, unless it has ended meanwhile or another process holds it."""
        run_id = run.spec.run_id
        try:
            lease = self._claim(run)
        except LeaseHeld:
            local = is_local(run.folder.path)
            run.not_before = time.monotonic() + (WAIT_SECONDS if local else REMOTE_HEARTBEAT)
            return
        except StorageError as error:
            self._no_claims_before = time.monotonic() + WAIT_SECONDS
            self._attempt_failed(run, AttemptError.of(error))
            return
        if lease is None:
            return
        self.pending.remove(run_id)
        self.running[run_id] = lease
        reduced, run.reduction = run.reduction, None  # recorded by one attempt only
        job = self._make_job(
            spec=run.spec, execution=run.execution, owner=lease.owner, reduction=reduced
        )
        executor.start(job)

    def _claim(self, run: _Run) -> Lease | None:
        """The run's lease; None if another sweep has ended it. LeaseHeld if a process has it."""
        lease = claim(run.folder.path, alive=self._watch.alive)
        with ExitStack() as stack:
            stack.callback(lease.release)
            if self._ended_elsewhere(run):
                return None
            remove(run.folder.pause_request)
            stack.pop_all()
        return lease

    def _ended_elsewhere(self, run: _Run) -> bool:
        """Whether another sweep finished the run, or failed at it as often as this one would."""
        if _ended(run.folder):
            self.pending.discard(run.spec.run_id)
            return True
        failure = run.folder.read_failure()
        if failure is None or failure.attempt <= run.attempts_before:
            return False
        run.failures = max(run.failures, failure.attempt - run.attempts_before)
        if not failure.repeats and run.failures <= self.retries:
            return False
        self._give_up(run, failure.message)
        return True

    # ---- Ends of attempts ----

    def _attempt_ended(self, run_id: str, error: AttemptError | None) -> None:
        """Record how an attempt ended, and decide what follows."""
        run, lease = self.runs[run_id], self.running[run_id]
        with suppress(StorageError):  # tried again when the sweep ends
            if run_id in self.backups and delete_if_begun(self.ledger, run_id):
                self.backups.discard(run_id)
        try:
            ended = _ended(run.folder)
        except StorageError as unreadable:
            # It may have its result: looked at again, not counted as a failure.
            self._say(f"{run_id}: {unreadable}")
            self._retry(run, WAIT_SECONDS)
        else:
            self._decide(run, error, lease, ended)
        self._release(run_id)  # last: until then, a second signal has to find the run here

    def _decide(self, run: _Run, error: AttemptError | None, lease: Lease, ended: bool) -> None:
        """What follows for a run whose attempt is over."""
        error = error or _NO_RESULT
        if ended:
            self._breaker.add_success(run.spec)
        elif self.stop.from_outside or issubclass(error.kind, RunPaused):
            # A signal may have ended the worker too: no failure of the run.
            self.paused.add(run.spec.run_id)
        elif issubclass(error.kind, LeaseHeld | LeaseLost):
            self._retry(run, WAIT_SECONDS)
        elif issubclass(error.kind, OutOfMemory):
            self._reduce_batch(run, error, lease)
        else:
            self._attempt_failed(run, error, lease)

    def _retry(self, run: _Run, seconds: float) -> None:
        run.not_before = time.monotonic() + seconds
        self.pending.add(run.spec.run_id)

    def _reduce_batch(self, run: _Run, error: AttemptError, lease: Lease) -> None:
        """Continue with a smaller batch, if there is one; that is no failed attempt."""
        made = reduction(run.spec, run.execution, error.kind, error.batch, error.message)
        if made is None:
            message = f"{error.message}; {ADVICE}"
            self._attempt_failed(run, replace(error, message=message, permanent=True), lease)
            return
        self._say(f"{run.spec.run_id}: {error.message}; going on with {made.after}")
        self._retry(run, 0.0)
        # Pending runs of the same size would run out of memory too.
        for run_id, other in self.runs.items():
            alike = _same_memory(run.spec, other.spec) and run_id in self.pending
            size = getattr(other.execution, made.setting)
            if alike and (size == "auto" or size > made.after):
                other.execution = other.execution.model_copy(update={made.setting: made.after})
                other.reduction = made

    def _attempt_failed(self, run: _Run, error: AttemptError, lease: Lease | None = None) -> None:
        """Record a failed attempt; try again, or give the run up."""
        run.failures += 1
        if error.gpu is not None:
            self.broken_gpus[error.gpu] += 1
        final = error.permanent or run.failures > self.retries or self.stop.requested
        with suppress(StorageError):  # the summary reports it all the same
            record_failure(
                run.folder, error.kind.__name__, error.message, error.traceback, error.permanent
            )
        what = "given up" if final else "trying again"
        if lease is not None:
            text = f"failed attempt {run.failures}, {what}: {error.message}"
            append_to_log(run.folder, lease, text)
        if final:
            self._give_up(run, error.message)
            return
        self._say(f"{run.spec.run_id}: {what} after {error.message.splitlines()[0]}")
        self._retry(run, RETRY_SECONDS * (run.failures - 1))

    def _give_up(self, run: _Run, cause: str) -> None:
        run_id = run.spec.run_id
        self.failed[run_id] = cause
        self.pending.discard(run_id)
        blocked = self._breaker.blocking_error(run.spec)
        if run.spec.parent not in self.failed:
            self._breaker.add_failure(run.spec, cause)
        if blocked is None and self._breaker.blocking_error(run.spec) is not None:
            self._say(f"{LIMIT} runs ended with the same error: none like them is started any more")
        if self.fail_fast:
            self.stop.request()

    def _release(self, run_id: str) -> None:
        with self._pause_lock:
            lease = self.running.pop(run_id)
        try:
            if lease.is_held():
                remove(self.runs[run_id].folder.pause_request)
        except StorageError as error:
            log.warning("%s: its file `pause` may be left: %s", run_id, error)
        lease.release()


def _ended(folder: RunFolder) -> bool:
    """Whether nothing is left to do; unlike its state also while somebody holds the lease."""
    return folder.read_result() is not None or exists(folder.stopped)


def _same_memory(a: RunSpec, b: RunSpec) -> bool:
    """Whether two runs need about the same memory."""
    same = a.train.global_batch == b.train.global_batch and a.train.precision == b.train.precision
    return same and a.model == b.model and a.train.mix.group == b.train.mix.group
