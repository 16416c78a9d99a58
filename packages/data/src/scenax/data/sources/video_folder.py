"""Videos by class: the folders directly below one are the classes.

Checked against folders written by hand.
"""

from typing import ClassVar, final

from scenax.data.examples import Example
from scenax.data.sources import _files
from scenax.data.sources.class_folder import ClassFolder


@final
class VideoFolder(ClassFolder):
    """Videos by class, with ``video``, the absolute path of each.

    They end in mp4, avi, webm, mkv, mov or gif; ``media`` decodes them.
    """

    kind: ClassVar = _files.VIDEOS
    wanted: ClassVar = (
        "a folder with a folder of videos for every class, such as jumping/1.mp4 and running/1.mp4"
    )

    def _content(self, file: _files.File) -> Example:
        return {"video": file.filled_path()}
