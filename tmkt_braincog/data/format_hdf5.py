"""Recordings in HDF5, of any layout, and in MATLAB 7.3, which is HDF5."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import UserError
from .columns import Raw, by_name, of_array, only_one

ECF = 0x8ECF  # Prophesee's filter; it is not among those of hdf5plugin


def read_hdf5(path: Path) -> Raw:
    """Four arrays in a group (DSEC), or one array of fields (Metavision) or ``[E, 4]``.

    Times of both are us. DSEC's ``t_offset`` is not added: frames are cut from the first event on.
    """
    import h5py

    with suppress(ImportError):
        import hdf5plugin  # noqa: F401  (compression filters that h5py lacks)
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        every: dict[str, Any] = {}
        file.visititems(lambda name, item: every.update({name: item}))
        groups: dict[str, dict[str, Any]] = {}
        for name, item in every.items():
            if not isinstance(item, h5py.Dataset):
                continue
            group, _, last = name.rpartition("/")
            if item.dtype.names or (item.ndim == 2 and item.shape[1] == 4):
                if not item.dtype.names or by_name(dict.fromkeys(item.dtype.names)):
                    found[name] = item
            elif item.size == max(item.shape, default=0):
                groups.setdefault(group or "/", {})[last] = item
        found |= {g: own for g, own in groups.items() if by_name(dict.fromkeys(own))}
        chosen: Any = only_one(found, "groups or arrays")
        table = isinstance(chosen, h5py.Dataset)
        for item in [chosen] if table else chosen.values():
            _check_filters(item, path)
        columns = of_array(chosen[:]) if table else by_name(chosen)
        geometry = re.fullmatch(r"(\d+)x(\d+)", str(file.attrs.get("geometry")))
    known = {"CD/events", "ms_to_idx"} & every.keys()
    sensor = (int(geometry[1]), int(geometry[2])) if geometry else None
    return Raw(columns or {}, sensor, "us" if known else None)


def _check_filters(item: Any, path: Path) -> None:
    """A UserError that says what to install for a filter of this data set that is not there."""
    from h5py.h5z import filter_avail

    made = item.id.get_create_plist()
    for number, _, _, name in (made.get_filter(i) for i in range(made.get_nfilters())):
        if filter_avail(number):
            continue
        said = f"{path} is compressed by the filter {number} ({name.split(b';')[0].decode()})"
        if number == ECF:
            raise UserError(
                f"{said} of Prophesee. Install its plug-in (github.com/prophesee-ai/hdf5_ecf) and "
                "set HDF5_PLUGIN_PATH to its folder, or record as .raw."
            )
        raise UserError(f"{said}, which h5py lacks. Install it: pip install hdf5plugin")
