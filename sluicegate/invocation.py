"""What all commands share: the settings file that was named, read when first needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from sluicegate.node_settings import EnforcingSettings, NodeSettings
    from sluicegate.settings import Settings


class Invocation:
    """One run of the command line."""

    def __init__(self, config_file: Path | None) -> None:
        self.config_file = config_file
        self._settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        """The settings of this run.

        Raises:
            CommandProblem: the file or the environment holds something that is no setting.
        """
        if self._settings is None:
            from sluicegate.settings import load_settings

            self._settings = load_settings(self.config_file)
        return self._settings

    @property
    def node_settings(self) -> NodeSettings:
        """The settings of an exporter, read without the rest.

        Raises:
            CommandProblem: the file or the environment holds something that is no setting.
        """
        from sluicegate.node_settings import NodeSettings
        from sluicegate.settings_layers import load

        return load(NodeSettings, self.config_file)

    @property
    def enforcing_settings(self) -> EnforcingSettings:
        """The settings of a node's agent, read without the rest.

        Raises:
            CommandProblem: the file or the environment holds something that is no setting.
        """
        from sluicegate.node_settings import EnforcingSettings
        from sluicegate.settings_layers import load

        return load(EnforcingSettings, self.config_file)


def invocation(context: typer.Context) -> Invocation:
    """Return what the root of the command line left for its commands."""
    found = context.find_object(Invocation)
    return found if found is not None else Invocation(None)
