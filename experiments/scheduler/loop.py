"""What a sweep does: runs are started as there is room, and their ends decide what follows."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from experiments.datasets.paths import DataPaths
from experiments.errors import (
    EvaluationOutOfMemory,
    LeaseHeld,
    LeaseLost,
    OutOfMemory,
    StorageError,
)
from experiments.grid.spec import RunSpec
from experiments.scheduler.circuit_breaker import SAME, Breaker
from experiments.scheduler.executor import AttemptError, Executor
from experiments.scheduler.signals import AtOnce, Stop
from experiments.store.attempt_records import append_to_log, record_failure
from experiments.store.files import remove, write_text
from experiments.store.lease import REMOTE_HEARTBEAT, Lease, Watch, claim
from experiments.store.ledger import Ledger
from experiments.worker.job import Job
from experiments.worker.out_of_memory import ADVICE, Reduction, reduction
from results.reading.location import exists, is_local
from results.reading.run_folder import ENDED, RunFolder, State
from tcclip.config import Execution

log = logging.getLogger(__name__)

#: How often a run that somebody else computes is looked at again (in a store: less often), and
#: how long ends are awaited.
WAIT_SECONDS = 1.0
#: The first retry comes at once, each further one so much later than the one before.
RETRY_SECONDS = 10.0
_ELSEWHERE = (LeaseHeld.__name__, LeaseLost.__name__)
_MEMORY = (OutOfMemory.__name__, EvaluationOutOfMemory.__name__)
#: The class name of `tcclip.train.Paused`, which is not imported: torch would come along.
_PAUSED = "Paused"
_SILENT = AttemptError("WorkerDied", "WorkerDied: its worker ended without a result", "")


@dataclass(frozen=True)
class Policy:
    """How a sweep meets failures. `retries`: further attempts at a run, where they may help;
    `fail_fast`: end with the first run that failed for good."""

    retries: int = 2
    fail_fast: bool = False


@dataclass(frozen=True)
class Request:
    """What all runs of a sweep are computed with."""

    data_paths: DataPaths
    execution: Execution
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass
class _Run:
    """A run this sweep wants to see finished."""

    spec: RunSpec
    folder: RunFolder
    execution: Execution
    #: Attempts on record when the sweep began, and failed ones since, whoever made them.
    before: int
    failures: int = 0
    reduction: Reduction | None = None
    #: Not looked at before then (monotonic seconds).
    later: float = 0.0


class Loop:
    """Starts what can be started until nothing is left to wait for."""

    def __init__(
        self,
        ledger: Ledger,
        specs: Sequence[RunSpec],
        states: Mapping[str, State],
        request: Request,
        policy: Policy,
        say: Callable[[str], None],
    ) -> None:
        self.ledger, self.request, self.policy = ledger, request, policy
        self.say = _quietly(say)
        todo = [spec for spec in specs if states[spec.run_id] not in ENDED]
        self.runs = {spec.run_id: self._begin(spec, states[spec.run_id]) for spec in todo}
        self.pending = set(self.runs)
        self.running: dict[str, Lease] = {}
        self.paused: set[str] = set()
        self.failed: dict[str, str] = {}
        self.stop = Stop(self._pause, self.say, remote=not is_local(ledger.out))
        self._breaker, self._watch = Breaker(), Watch()
        self._closed = False
        #: Runs whose attempt is over, though they still stand in `running`; and who may look.
        self._over: set[str] = set()
        self._pausing = threading.Lock()
        #: Nothing is claimed before then (monotonic seconds): what kept one run from it may well
        #: keep all the others, and is not tried on each of them at once.
        self._later = 0.0
        self._waiting = False

    def _begin(self, spec: RunSpec, state: State) -> _Run:
        folder = self.ledger.folder(spec.run_id)
        failure = None
        with suppress(StorageError):  # said when the run is claimed
            # A store is not asked for what cannot be there.
            failure = None if state is State.PLANNED else folder.read_failure()
        before = 0 if failure is None else failure.attempt
        return _Run(spec, folder, self.request.execution, before)

    # ---- What came of it ----

    def left(self, run_id: str) -> str:
        """Of a run that is neither finished nor failed: "paused" or "not started"."""
        return "paused" if run_id in self.paused else "not started"

    def attempts(self) -> dict[str, int]:
        """Of each failed run: how often it was tried since the sweep began."""
        return {run_id: self.runs[run_id].failures for run_id in self.failed}

    def halt(self) -> str | None:
        """Why runs were not started, if that was this sweep's decision."""
        if self.policy.fail_fast and self.failed:
            return f"--fail-fast: {next(iter(self.failed))} failed"
        held = [self._breaker.holds(self.runs[run_id].spec) for run_id in sorted(self.pending)]
        error = next((one for one in held if one is not None), None)
        return None if error is None else f"{SAME} runs like them ended with the same: {error}"

    # ---- From start to end ----

    def run(
        self,
        make_executor: Callable[[], Executor],
        watch: Callable[[Ledger], AbstractContextManager[object]],
    ) -> None:
        """Until everything ended that could, or the sweep was told to stop."""
        with self.stop, suppress(AtOnce):
            executor = make_executor()
            try:
                self.stop.listen()  # Ray took SIGTERM for itself
                with watch(self.ledger):
                    try:
                        self._turn(executor)
                    finally:
                        self._close(executor)
            finally:
                self._close(executor)

    def _turn(self, executor: Executor) -> None:
        while True:
            hope = not self.stop.asked and self._start_ready(executor)
            if not self.running and not hope:
                return
            if self.stop.asked and self.stop.expired:
                return
            for run_id, death in executor.ended(WAIT_SECONDS).items():
                self._settle(run_id, death)

    def _close(self, executor: Executor) -> None:
        """End what still runs, and let go of it: others may go on with it at once."""
        if self._closed:
            return
        self._closed = True
        with self.stop.deaf():
            try:
                executor.close()
            finally:
                for run_id, lease in self.running.items():
                    self.paused.add(run_id)
                    self._release(self.runs[run_id], lease)

    def _pause(self) -> None:
        """Ask the runs in progress to save and end; called by the thread of `stop`."""
        for run_id in list(self.running):
            path = self.runs[run_id].folder.pause_request
            # Under the lock: not a moment after its attempt ended, and the file was removed.
            with self._pausing, suppress(StorageError):  # then they are ended without
                if run_id not in self._over and not exists(path):
                    write_text(path, "")

    # ---- Starting ----

    def _start_ready(self, executor: Executor) -> bool:
        """Start what can be; False if there is nothing to be started later either."""
        slots, hopeful = executor.slots, set(self.running)
        self._tell_of_no_room(slots)
        free, now = slots - len(self.running), time.monotonic()
        for run_id, run in self._startable(hopeful):
            if self.stop.asked:
                break
            if free > 0 and now >= max(run.later, self._later):
                free -= self._start(run, executor)
            if run_id in self.pending or run_id in self.running:
                hopeful.add(run_id)
        return not self.pending.isdisjoint(hopeful)

    def _tell_of_no_room(self, slots: int) -> None:
        waiting = slots == 0 and bool(self.pending)
        if waiting and not self._waiting:
            self.say("there is no room for a run in the cluster now; waiting until there is")
        self._waiting = waiting

    def _startable(self, hopeful: set[str]) -> Iterator[tuple[str, _Run]]:
        """Pending runs that nothing keeps from starting, in order; those whose parent is still to
        come are `hopeful` with it. Children of a failed run fail here."""
        for run_id, run in self.runs.items():
            parent = run.spec.parent
            if run_id not in self.pending:
                continue
            if parent in self.failed:
                self._fail(run, f"its parent run {parent} failed")
            elif parent in self.pending or parent in self.running or parent in self.paused:
                hopeful |= {run_id} if parent in hopeful else set()
            elif self._breaker.holds(run.spec) is None:
                yield run_id, run

    def _start(self, run: _Run, executor: Executor) -> bool:
        """Claim `run` and start it; not if it ended meanwhile or somebody else is at it."""
        run_id, owner = run.spec.run_id, uuid.uuid4().hex
        lease = None
        try:
            if self._ended_elsewhere(run):
                return False
            lease = claim(run.folder.path, owner, self._watch.alive)
            if self._ended_elsewhere(run):
                lease.release()
                return False
            remove(run.folder.pause_request)
        except LeaseHeld:
            local = is_local(run.folder.path)
            run.later = time.monotonic() + (WAIT_SECONDS if local else REMOTE_HEARTBEAT)
            return False
        except StorageError as error:
            if lease is not None:
                lease.release()
            self._later = time.monotonic() + WAIT_SECONDS
            self._attempt_failed(run, AttemptError.of(error))
            return False
        self.pending.remove(run_id)
        self._over.discard(run_id)
        self.running[run_id] = lease
        reduced, run.reduction = run.reduction, None  # told once
        executor.start(
            Job(
                spec=run.spec, out=self.ledger.out, data_paths=self.request.data_paths,
                execution=run.execution, files=dict(self.request.files),
                owner=owner, reduction=reduced,
            )
        )  # fmt: skip
        return True

    def _ended_elsewhere(self, run: _Run) -> bool:
        """Whether another sweep finished the run, or failed at it as often as this one would."""
        if _ended(run.folder):
            self.pending.discard(run.spec.run_id)
            return True
        failure = run.folder.read_failure()
        if failure is None or failure.attempt <= run.before:
            return False
        run.failures = max(run.failures, failure.attempt - run.before)
        if not failure.repeats and run.failures <= self.policy.retries:
            return False
        self._fail(run, failure.message)
        return True

    # ---- Ends ----

    def _settle(self, run_id: str, death: AttemptError | None) -> None:
        """An attempt ended: write down how, and decide what becomes of its run."""
        run, lease = self.runs[run_id], self.running[run_id]
        try:
            ended = _ended(run.folder)
        except StorageError as error:
            # It may well have its result: that is looked for again, not called a failure.
            self.say(f"{run_id}: {error}")
            self._again(run, WAIT_SECONDS)
        else:
            self._decide(run, death, lease, ended)
        self._release(run, lease)
        del self.running[run_id]  # last: a signal may come at any time, and a run is not lost

    def _decide(self, run: _Run, death: AttemptError | None, lease: Lease, ended: bool) -> None:
        """What becomes of a run whose attempt is over."""
        try:
            if ended:
                self._breaker.finished(run.spec)
            elif self.stop.signal is not None or (death and death.error == _PAUSED):
                self.paused.add(
                    run.spec.run_id
                )  # of what a signal does to workers no run is guilty
            elif death and death.error in _ELSEWHERE:
                self._again(run, WAIT_SECONDS)
            elif death and death.error in _MEMORY:
                self._memory_short(run, death, lease)
            else:
                self._attempt_failed(run, death or _SILENT, lease)
        except StorageError as error:
            self._attempt_failed(run, AttemptError.of(error), lease)

    def _again(self, run: _Run, seconds: float) -> None:
        run.later = time.monotonic() + seconds
        self.pending.add(run.spec.run_id)

    def _memory_short(self, run: _Run, death: AttemptError, lease: Lease) -> None:
        """Go on with a smaller batch, if there is one; that is no failed attempt."""
        made = reduction(run.spec, run.execution, death.error, death.message)
        if made is None:
            message = f"{death.message}; {ADVICE}"
            self._attempt_failed(run, replace(death, message=message, repeats=True), lease)
            return
        self.say(f"{run.spec.run_id}: {death.message}; going on with {made.after}")
        self._again(run, 0.0)
        # What is still to come of the same model would run out of memory as well.
        for run_id, other in self.runs.items():
            alike = _alike(run.spec, other.spec) and run_id in self.pending
            if alike and getattr(other.execution, made.setting) > made.after:
                other.execution = other.execution.model_copy(update={made.setting: made.after})
                other.reduction = made

    def _attempt_failed(self, run: _Run, death: AttemptError, lease: Lease | None = None) -> None:
        """Record a failed attempt; try again, or give the run up."""
        run.failures += 1
        final = death.repeats or run.failures > self.policy.retries or self.stop.asked
        with suppress(StorageError):  # nowhere to write: `failed` keeps it for the summary
            record_failure(run.folder, death.error, death.message, death.traceback, death.repeats)
        what = "given up" if final else "trying again"
        if lease is not None:
            append_to_log(
                run.folder, lease, f"failed attempt {run.failures}, {what}: {death.message}"
            )
        if final:
            self._fail(run, death.message)
            return
        self.say(f"{run.spec.run_id}: {what} after {death.message.splitlines()[0]}")
        self._again(run, RETRY_SECONDS * (run.failures - 1))

    def _fail(self, run: _Run, cause: str) -> None:
        """Give `run` up."""
        run_id = run.spec.run_id
        self.failed[run_id] = cause
        self.pending.discard(run_id)
        held = self._breaker.holds(run.spec)
        if run.spec.parent not in self.failed:
            self._breaker.failed(run.spec, cause)
        if held is None and self._breaker.holds(run.spec) is not None:
            self.say(f"{SAME} runs ended with the same error: none like them is started any more")
        if self.policy.fail_fast:
            self.stop.ask()

    def _release(self, run: _Run, lease: Lease) -> None:
        try:
            with self._pausing:
                self._over.add(run.spec.run_id)
                if lease.is_held():
                    remove(run.folder.pause_request)
        except StorageError as error:
            log.warning("%s: its file `pause` may be left: %s", run.spec.run_id, error)
        lease.release()


def _quietly(say: Callable[[str], None]) -> Callable[[str], None]:
    """`say`, where nobody may listen any more: a terminal that was closed ends no sweep."""

    def said(text: str) -> None:
        log.info("%s", text)
        with suppress(OSError, ValueError):
            say(text)

    return said


def _ended(folder: RunFolder) -> bool:
    """Whether nothing is left to do; unlike its state also while somebody holds the lease."""
    return folder.read_result() is not None or exists(folder.stopped)


def _alike(a: RunSpec, b: RunSpec) -> bool:
    """Whether two runs need about the same memory."""
    same = a.train.global_batch == b.train.global_batch and a.train.precision == b.train.precision
    return same and a.model == b.model and a.train.mix.group == b.train.mix.group
