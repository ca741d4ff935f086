"""`type: etl_project.incoming.source.FileSource` in an existing `defs.yaml` goes on working; new ones name
`etl_project.sources.component.FileSource`."""

from etl_project.sources import FileSource

__all__ = ["FileSource"]
