"""What is sent to the machines of a cluster by value, so that they need no Subpixel to run it."""

from typing import Any

Message = tuple[int, bytes]
"""The number of an attempt at a task, and a pickled message of it."""


def remote_function() -> Any:
    """Return the function that Ray calls on the machines: (payload, versions, board, attempt) -> dict.

    The result has one of the keys "value", "error" (an exception) and "refused" (why). With "refused" there
    is "node", the id of the machine, and perhaps "only_this_task".
    """
    import ray

    def subpixel_task(payload: bytes, versions: dict[str, str], board: Any, attempt: int) -> dict[str, Any]:
        # A local function is sent by value, so that a machine without Subpixel can say so.
        try:
            from subpixel.cluster.worker import perform
        except ImportError as error:
            import socket

            import ray

            reason = f"{socket.gethostname()} has no Subpixel like that of the driver ({error})"
            return {"refused": reason, "node": ray.get_runtime_context().get_node_id()}
        return perform(payload, versions, board, attempt)

    return ray.remote(max_retries=0)(subpixel_task)


def start_board() -> Any:
    """Start the board of a run, an actor that passes messages from tasks to the driver; return its handle.

    A task's return value arrives when the task ends. What it finishes before that, and its progress, go over
    the board, so that a task that is killed has not worked in vain. It runs on the driver's machine if that
    belongs to the cluster, else on the head node, so that no other machine can take it along; after a crash
    it starts again.

    Its methods are ``put(attempt, message)`` and ``take()``, which returns all messages since the last call.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    class Board:
        def __init__(self) -> None:
            self.messages: list[Message] = []

        def put(self, attempt: int, message: bytes) -> None:
            self.messages.append((attempt, message))

        def take(self) -> list[Message]:
            messages, self.messages = self.messages, []
            return messages

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(Board).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()
