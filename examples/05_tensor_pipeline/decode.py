import zlib

import numpy as np
from pipeline import BATCHES, Batch

import zeroslot as zs


def files(batch: int) -> list[bytes]:
    """Stands for a batch of image files: image i is brightest in channel i % 3."""
    images = np.zeros((4 + batch, 3, 32, 32), np.uint8)
    for i, image in enumerate(images):
        image[i % 3] = 50 * batch
    return [zlib.compress(image.tobytes()) for image in images]


with zs.Publisher("pipeline/batches", Batch, on_full="block") as pub:
    pub.wait_for_subscribers()
    for number in range(1, BATCHES + 1):
        images = files(number)
        with pub.loan() as batch:
            batch.number = number
            zs.resize(batch, pixels=(len(images), 3, 32, 32))  # then write in place
            pixels = batch.pixels
            for i, content in enumerate(images):
                pixels[i] = np.frombuffer(zlib.decompress(content), np.uint8).reshape(3, 32, 32)
            pixels /= 255
    print("all batches taken:", pub.flush())
