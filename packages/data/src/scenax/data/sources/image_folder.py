"""Images by class: the folders directly below one are the classes.

Checked against folders written by hand.
"""

from typing import ClassVar, final

from scenax.data.examples import Example
from scenax.data.sources import _files
from scenax.data.sources.class_folder import ClassFolder


@final
class ImageFolder(ClassFolder):
    """Images by class, with ``image``, the bytes of each."""

    kind: ClassVar = _files.IMAGES
    wanted: ClassVar = (
        "a folder with a folder of images for every class, such as cats/1.jpg and dogs/1.jpg"
    )

    def _content(self, file: _files.File) -> Example:
        return {"image": file.read()}
