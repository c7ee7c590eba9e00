"""Whether a process still runs."""


def is_running(process: int) -> bool:
    """Whether the process of this id on this host runs.

    One that was killed and that nobody has waited for does not, though its id exists for as long.
    """
    import psutil

    try:
        return psutil.Process(process).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
