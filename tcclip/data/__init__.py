"""Videos in, batches out: annotations, decoding, sampling, transforms, mixing (SPEC 3)."""
