"""Images with semantic maps in a second folder.

A map says the class of every pixel: by grey values of 8 or 16 bits, by the positions in a palette
(Pascal VOC, ADE20K), or by colours that the user lists. Checked against maps written by hand, and
the names of Cityscapes.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int32
from PIL import Image

from scenax.data.examples import Example
from scenax.data.reports import Report, UnreadableError
from scenax.data.sources import _files

Colour = tuple[int, int, int]
"""Red, green and blue, each from 0 to 255."""

# Pillow's modes whose values are class ids as they stand.
_GREY = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
_CODE = np.array([2**16, 2**8, 1], np.int32)


class MaskFolder:
    """Images, and maps of the same names in another folder.

    Examples have ``image`` (the file's bytes), ``segmentation`` (class ids by pixel) and ``name``.
    What is odd about the files is in ``report``.
    """

    def __init__(
        self,
        images_dir: str | os.PathLike[str],
        masks_dir: str | os.PathLike[str],
        *,
        class_names: Sequence[str] = (),
        colors: Sequence[Colour] | Mapping[Colour, int] | None = None,
        ignore: int = 255,
        image_suffix: str = "",
        mask_suffix: str = "",
    ) -> None:
        """Lists the files and pairs them; none is opened.

        Args:
          images_dir: the folder of images.
          masks_dir: the folder of maps, named as the images but for the ending and the suffixes.
          class_names: the classes in the order of their ids. If given, no other id may come up.
          colors: the colours of the classes in the order of their ids, or ids by colour, for maps
            that are pictures.
          ignore: the id of pixels without a class; it stays as it is.
          image_suffix: what an image's name has before its ending and its map's has not, such as
            "_leftImg8bit" in Cityscapes. Files without it are left out.
          mask_suffix: the same for maps, such as "_gtFine_labelTrainIds".

        Raises:
          FileNotFoundError: if there is no such folder.
          ValueError: if a folder has no images; if an image has no map, a map no image, or two
            files one name; if ``colors`` has a colour twice.
        """
        self.report = Report()
        self.label_names = _files.class_order(class_names)
        self._ignore = ignore
        self._colors = None if colors is None else _ids_by_code(colors)
        images = _by_key(images_dir, "a folder of images", image_suffix, self.report)
        masks = _by_key(masks_dir, "a folder of maps", mask_suffix, self.report)
        lone = sorted(images.keys() - masks.keys()), sorted(masks.keys() - images.keys())
        if lone[0] or lone[1]:
            raise ValueError(
                f"{len(lone[0])} of {len(images)} images in {images_dir} have no map "
                f"({_files.some(lone[0]) or 'none'}), and {len(lone[1])} of {len(masks)} maps in "
                f"{masks_dir} no image ({_files.some(lone[1]) or 'none'}). Wanted are the same "
                "names but for the ending; if one has an addition, give it as image_suffix or "
                "mask_suffix."
            )
        for file in masks.values():
            if _files.extension(file.name) in (".jpg", ".jpeg", ".jpe", ".jfif"):
                self.report.add("map in JPEG, whose values are not exact", file.name)
        self._pairs = sorted((image, masks[key]) for key, image in images.items())

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Example:
        image, mask = self._pairs[index]
        encoded = image.read()
        segmentation = self._ids(mask)
        _files.check_size(image, encoded, segmentation.shape, f"its map {mask.path}")
        return {"image": encoded, "segmentation": segmentation, "name": image.name}

    def _ids(self, file: _files.File) -> Int32[np.ndarray, "h w"]:
        picture = _files.decoded(file)
        if self._colors is not None:
            ids = _coloured(picture, *self._colors, file)
        elif picture.mode in _GREY:
            ids = np.asarray(picture).astype(np.int32)
        else:
            raise UnreadableError(
                f"{file.path} is a picture in colours (Pillow's mode {picture.mode}), not a map of "
                "class ids. Give colors=, the colour of every class, or save it as grey values."
            )
        count = len(self.label_names)
        if count:
            wrong = np.unique(ids[(ids != self._ignore) & ((ids < 0) | (ids >= count))])
            if len(wrong):
                raise UnreadableError(
                    f"{file.path} has pixels of the value {_files.some(wrong.tolist())}, but there "
                    f"are {count} classes, 0 to {count - 1}, and {self._ignore} for none. Give all "
                    "classes, or another ignore=."
                )
        return ids


def _by_key(
    path: str | os.PathLike[str], wanted: str, suffix: str, report: Report
) -> dict[str, _files.File]:
    """Returns the images of a folder by what an image and its map have in common."""
    suffix = _files.composed(suffix)
    folder = _files.Folder(path, wanted, report)
    chosen = []
    for file in folder.only(_files.IMAGES):
        if _files.stem(file.name).endswith(suffix):
            chosen.append(file)
        else:
            report.add(f"name does not end in {suffix}, left out", file.name)
    found = _files.by_name(chosen, lambda name: _files.stem(name).removesuffix(suffix))
    if not found:
        raise ValueError(
            f"No name in {folder.root} ends in {suffix!r}, but "
            f"{_files.some([file.name for file in folder.files])}. Give another suffix."
        )
    return found


def _ids_by_code(
    colors: Sequence[Colour] | Mapping[Colour, int],
) -> tuple[Int32[np.ndarray, " k"], Int32[np.ndarray, " k"]]:
    """Returns colours as numbers, in ascending order, and their ids."""
    ids = colors.values() if isinstance(colors, Mapping) else range(len(colors))
    rgb = np.array(list(colors), np.int32)
    if rgb.ndim != 2 or rgb.shape[1] != 3 or rgb.min() < 0 or rgb.max() > 255:
        raise ValueError(
            f"colors should be colours of three numbers from 0 to 255, red, green and blue, got "
            f"{colors}."
        )
    codes = rgb @ _CODE
    order = np.argsort(codes)
    if len(np.unique(codes)) < len(codes):
        raise ValueError(f"colors has a colour more than once: {colors}. Each class needs its own.")
    return codes[order], np.array(list(ids), np.int32)[order]


def _coloured(
    picture: Image.Image,
    codes: Int32[np.ndarray, " k"],
    ids: Int32[np.ndarray, " k"],
    file: _files.File,
) -> Int32[np.ndarray, "h w"]:
    rgb = np.asarray(picture.convert("RGB"), np.int32)
    code = rgb @ _CODE
    place = np.minimum(np.searchsorted(codes, code), len(codes) - 1)
    unknown = codes[place] != code
    if unknown.any():
        colour = tuple(rgb[unknown][0].tolist())
        same = int((code == code[unknown][0]).sum())
        raise UnreadableError(
            f"{file.path} has {int(unknown.sum())} pixels of colours that colors does not have, "
            f"{same} of them {colour}. Add the colour, with ids by colour if it is the ignored "
            "one, such as {(224, 224, 192): 255}."
        )
    return ids[place]
