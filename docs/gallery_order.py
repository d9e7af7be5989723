"""The order of the gallery's pages."""


class FirstStepsFirst:
    """Sort scripts by name, but for the place to start."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, name: str) -> tuple[bool, str]:
        """Return what a script is sorted by."""
        return name != "plot_first_steps.py", name
