// Shrink: makes a photo small before it is sent, for a kernel far away, or a server that takes no large message, would lose it.

const MOST = 1024; // pixels of a side
const LARGE = 5e6; // bytes that are sent as they are

// The file, or a smaller JPEG of the same name, upright as its EXIF says, on white where it is transparent. Of a large file that no
// browser can read only the name is left, for the kernel to say that it cannot read it either.
async function shrink(file) {
  let image;
  try {
    image = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return file.size > LARGE ? new File([], file.name, { type: file.type }) : file;
  }
  const scale = MOST / Math.max(image.width, image.height);
  if (scale >= 1) return file;
  const canvas = new OffscreenCanvas(Math.round(scale * image.width), Math.round(scale * image.height));
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
  return new File([blob], file.name, { type: blob.type, lastModified: file.lastModified });
}

export default { shrink };
