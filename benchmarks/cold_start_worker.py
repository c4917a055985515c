"""Script that times one cold start step by step, in the device's environment, without this repository.

    python cold_start_worker.py NANOSECONDS MODEL IMAGE

NANOSECONDS is `time.monotonic_ns()` of the process that starts this one, just before. The script prints one JSON
object: seconds by step, in their order, and processor seconds of all threads by step.
"""

import time

_BEGAN = time.monotonic_ns()  # before any other import

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402


def _now() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def main() -> None:
    """Take the steps of a program that judges one image."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # as our own module would do before the import
    steps = {"Python": (_BEGAN - int(sys.argv[1])) / 1e9}
    processor = {"Python": time.process_time()}
    last = _now()

    def done(step: str, *inside: str) -> None:
        nonlocal last
        now = _now()
        steps[step] = now[0] - last[0] - sum(steps[each] for each in inside)
        processor[step] = now[1] - last[1] - sum(processor[each] for each in inside)
        last = now

    import numpy  # noqa: F401, ICN001

    done("numpy")
    import PIL.Image

    PIL.Image.preinit()  # Pillow imports its decoders with the first image

    done("Pillow")
    import onnxruntime  # noqa: F401

    done("onnxruntime")
    from padim_edge_runtime import detector, image_files  # noqa: F401
    from padim_edge_runtime.devices import providers

    done("our modules")

    def timed(module: object, name: str, step: str) -> None:
        real = getattr(module, name)

        def call(*arguments: object, **named: object) -> object:
            start = _now()
            try:
                return real(*arguments, **named)
            finally:
                steps[step], processor[step] = (now - then for now, then in zip(_now(), start, strict=True))

        setattr(module, name, call)

    timed(detector, "verified", "read and verify")
    timed(providers, "open_session", "session")
    loaded = detector.Detector.load(sys.argv[2], "cpu")
    done("rest of the load", "read and verify", "session")
    frame = loaded.prepare(sys.argv[3])
    done("image")
    score = float(loaded(frame).score[0])
    done("first run")
    print(json.dumps({"steps": steps, "processor": processor, "score": score}))


if __name__ == "__main__":
    main()
