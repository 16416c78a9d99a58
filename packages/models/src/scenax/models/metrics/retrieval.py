"""Recall among the most similar: how often a query finds a match among its first k results.

Checked against sorting in numpy and scikit-learn's ``top_k_accuracy_score``. Letters in shapes:
b batch, n queries, m gallery, d width, s numbers of results.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, Shaped

from scenax.models.metrics.accumulator import Accumulator


def recall_at_k(
    similarity: Float[Array, "n m"], is_match: Bool[Array, "n m"], ks: Sequence[int]
) -> Float[Array, "n s"]:
    """Returns 1 where one of the ``k`` most similar is a match, else 0, per query and per ``k``.

    Of equally similar results the lower index comes first. A query without any match finds none.

    Args:
      similarity: of each query to each of the gallery, higher is more similar.
      is_match: which of the gallery are right answers to each query.
      ks: how many results to look at, in the order of the columns returned.

    Raises:
      ValueError: if ``ks`` is empty, or one is below 1 or above the size of the gallery.
    """
    if not ks or min(ks) < 1 or max(ks) > similarity.shape[-1]:
        raise ValueError(
            f"Each k has to be from 1 to the {similarity.shape[-1]} items of the gallery, "
            f"got {tuple(ks)}."
        )
    _, nearest = jax.lax.top_k(similarity, max(ks))
    found = jnp.cumsum(jnp.take_along_axis(is_match, nearest, axis=-1), axis=-1)
    return (found[:, jnp.asarray(ks) - 1] > 0).astype(jnp.float32)


class _Embeddings:
    """Embeddings and their ids, in the order in which they came."""

    def __init__(self) -> None:
        self._vectors: list[np.ndarray] = []
        self._ids: list[np.ndarray] = []

    def add(self, vectors: np.ndarray, ids: np.ndarray, batch_mask: np.ndarray | None) -> None:
        vectors = vectors.astype(np.float32)
        if batch_mask is not None:
            real = batch_mask > 0
            vectors, ids = vectors[real], ids[real]
        if not np.isfinite(vectors).all():
            raise ValueError(
                "Embeddings hold NaN or infinity, of which no similarity can be taken. Find where "
                "the model makes them, or mask the examples with batch_mask."
            )
        if len(vectors):
            self._vectors.append(vectors)
            self._ids.append(ids.astype(np.int64))

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        if not self._vectors:
            return np.zeros((0, 0), np.float32), np.zeros(0, np.int64)
        return np.concatenate(self._vectors), np.concatenate(self._ids)


@final
class RetrievalRecall(Accumulator):
    """Recall at k of images by texts and of texts by images, as in image-text retrieval.

    An image and a text match where they have the same id, so that an image may have several texts
    (five in COCO Captions and Flickr30k): a query is right as soon as one of its matches is found.
    Similarity is the dot product; normalise embeddings to length 1 for the cosine.
    """

    def __init__(self, ks: Sequence[int] = (1, 5, 10), *, chunk: int = 256) -> None:
        """Starts empty.

        Args:
          ks: how many results to look at.
          chunk: how many queries to compare at a time; memory is that of ``chunk`` rows of the
            matrix of similarities.

        Raises:
          ValueError: if ``ks`` is empty, or it or ``chunk`` is below 1.
        """
        if not ks or min(ks) < 1 or chunk < 1:
            raise ValueError(f"ks and chunk have to be 1 or more, got {tuple(ks)} and {chunk}.")
        self._ks = tuple(ks)
        self._chunk = chunk
        self.clear()

    def add_images(
        self,
        embeddings: Float[np.ndarray, "b d"],
        ids: Integer[np.ndarray, " b"],
        batch_mask: Shaped[np.ndarray, " b"] | None = None,
    ) -> None:
        """Adds images, each once: repeated for each of its texts it would take their places.

        Args:
          embeddings: any vectors, kept in float32.
          ids: different for each image.
          batch_mask: above 0 for the images that count.

        Raises:
          ValueError: for embeddings that are not finite.
        """
        self._images.add(embeddings, ids, batch_mask)

    def add_texts(
        self,
        embeddings: Float[np.ndarray, "b d"],
        ids: Integer[np.ndarray, " b"],
        batch_mask: Shaped[np.ndarray, " b"] | None = None,
    ) -> None:
        """Adds texts; arguments and errors are those of ``add_images``.

        Args:
          embeddings: any vectors, kept in float32.
          ids: that of the image each text belongs to.
          batch_mask: above 0 for the texts that count.
        """
        self._texts.add(embeddings, ids, batch_mask)

    def compute(self) -> dict[str, float]:
        """Returns ``image_to_text_recall_1`` and so on, and ``text_to_image_recall_1`` and so on.

        Queries without a match count as not found.

        Raises:
          ValueError: if there are no images or no texts, fewer than the largest ``k``, an image's
            id came twice, or the embeddings differ in width.
        """
        images, image_ids = self._images.arrays()
        texts, text_ids = self._texts.arrays()
        least = max(self._ks)
        if min(len(images), len(texts)) < least:
            raise ValueError(
                f"Recall at {least} needs at least {least} images and texts, got {len(images)} "
                f"images and {len(texts)} texts. Add more, or ask for a smaller k."
            )
        if images.shape[1] != texts.shape[1]:
            raise ValueError(
                f"Embeddings of images are {images.shape[1]} wide and those of texts "
                f"{texts.shape[1]}. Use the outputs of the shared space."
            )
        different, counts = np.unique(image_ids, return_counts=True)
        if np.any(counts > 1):
            raise ValueError(
                f"Images were added more than once: ids {different[counts > 1][:5].tolist()}. Add "
                "each image once, and mask the padding of batches with batch_mask."
            )
        both = {
            "image_to_text": self._ranks(images, image_ids, texts, text_ids),
            "text_to_image": self._ranks(texts, text_ids, images, image_ids),
        }
        return {
            f"{name}_recall_{k}": float(np.mean(ranks < k))
            for name, ranks in both.items()
            for k in self._ks
        }

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns ``images``, ``image_ids``, ``texts`` and ``text_ids``; see ``Accumulator``."""
        images, image_ids = self._images.arrays()
        texts, text_ids = self._texts.arrays()
        return {"images": images, "image_ids": image_ids, "texts": texts, "text_ids": text_ids}

    def add_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Adds what ``to_arrays`` returned; see ``Accumulator``."""
        self._images.add(arrays["images"], arrays["image_ids"], None)
        self._texts.add(arrays["texts"], arrays["text_ids"], None)

    def clear(self) -> None:
        """Forgets all that was added."""
        self._images = _Embeddings()
        self._texts = _Embeddings()

    def _ranks(
        self, queries: np.ndarray, query_ids: np.ndarray, gallery: np.ndarray, ids: np.ndarray
    ) -> Int[np.ndarray, " n"]:
        """Returns how many of the gallery come before each query's first match."""
        chunks: Iterator[slice] = (
            slice(start, start + self._chunk) for start in range(0, len(queries), self._chunk)
        )
        return np.concatenate([_ranks(queries[c], query_ids[c], gallery, ids) for c in chunks])


def _ranks(
    queries: np.ndarray, query_ids: np.ndarray, gallery: np.ndarray, ids: np.ndarray
) -> np.ndarray:
    similarity = queries @ gallery.T
    is_match = query_ids[:, None] == ids[None, :]
    # The first match is the most similar one, and the first of those that are equal. Counting what
    # comes before it is linear where sorting is not.
    matches = np.where(is_match, similarity, -np.inf)
    first = np.argmax(matches, axis=1)[:, None]
    best = np.take_along_axis(matches, first, axis=1)
    earlier = np.arange(len(gallery))[None, :] < first
    ranks = np.sum((similarity > best) | ((similarity == best) & earlier), axis=1)
    return np.where(is_match.any(axis=1), ranks, len(gallery))
