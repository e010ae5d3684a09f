"""What can go wrong with breaking things. Each message is one line for the user."""


class ChaosError(Exception):
    """An experiment that cannot be carried out as asked."""


class FaultError(ChaosError):
    """A fault that is not in force, or not as requested: nothing may be judged by it."""


class InstallError(ChaosError):
    """The Toxiproxy server cannot be had; the message says how it can."""
