"""Audio files by class: the folders directly below one are the classes.

Checked against folders written by hand.
"""

from typing import ClassVar, final

from scenax.data.examples import Example
from scenax.data.sources import _files
from scenax.data.sources.class_folder import ClassFolder


@final
class AudioFolder(ClassFolder):
    """Audio files by class, with ``audio``, the absolute path of each.

    They end in wav, flac, ogg or mp3; ``media`` decodes them.
    """

    kind: ClassVar = _files.AUDIO
    wanted: ClassVar = (
        "a folder with a folder of recordings for every class, such as barks/1.wav and purrs/1.wav"
    )

    def _content(self, file: _files.File) -> Example:
        return {"audio": file.filled_path()}
