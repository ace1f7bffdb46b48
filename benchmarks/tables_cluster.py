"""Tables of upscaling on several machines."""

from shared import load, markdown_table, provenance


def overhead() -> str:
    """One film on a cluster beside one process, and empty tasks."""
    stored = load("cluster-overhead")
    rows = [
        ["one process with two threads, seconds", f"{stored['local_seconds']:.1f}"],
        ["a cluster of two nodes with one CPU each, seconds", f"{stored['cluster_seconds']:.1f}"],
        ["ratio of the times", f"{stored['ratio']:.2f}"],
        ["empty tasks a second", str(stored["empty_tasks_per_second"])],
    ]
    table = markdown_table(["one film of 640x360, x2", ""], rows)
    return f"{provenance('cluster-overhead')}, {stored['frames']} frames:\n\n{table}"


def simulation() -> str:
    """Many films on 1 to 1,000 workers, simulated."""
    stored = load("cluster-simulation")
    head = [
        f"{stored['films']:,} films, workers",
        "hours",
        "times as fast as one machine",
        "with faults: hours",
        "times as fast",
        "tasks done twice",
    ]
    rows = [
        [
            f"{row['workers']:,}",
            f"{row['undisturbed']['hours']:.1f}",
            f"{row['undisturbed']['speedup']:.1f}",
            f"{row['disturbed']['hours']:.1f}",
            f"{row['disturbed']['speedup']:.1f}",
            f"{row['disturbed']['copies']:,}",
        ]
        for row in stored["rows"]
    ]
    run = stored["recorded_run"]
    return (
        f"{provenance('cluster-simulation')}. A segment takes {stored['segment_seconds']:.1f} s on a worker, "
        f"as recorded. The recorded run took {run['measured_seconds']:.0f} s, and simulated it takes "
        f"{run['simulated_seconds']:.0f} s:\n\n{markdown_table(head, rows)}"
    )
