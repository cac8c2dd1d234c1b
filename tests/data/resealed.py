"""A data set that a test changed on purpose, with hashes that say so."""

from pathlib import Path

from msgspec.structs import replace

from clickscale.data.layout import hashes_of, read_manifest, write_manifest


def reseal(folder: Path) -> None:
    """Record the files of a data set as they are now, as if it had been prepared that way."""
    manifest = read_manifest(folder)
    files, samples = hashes_of(folder, manifest.files)
    write_manifest(folder, replace(manifest, files=files, samples=samples))
