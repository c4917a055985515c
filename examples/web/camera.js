// The camera of a phone or a PC. Its frames stay in the page.

import { Refusal } from "./model-file.js";

const REASONS = {
  NotAllowedError: "The camera was not allowed. Allow it in the browser’s settings of this page.",
  NotFoundError: "There is no camera. Connect one, or choose an image.",
  NotReadableError: "The camera is in use by another program. Close it there.",
};

/** Start the camera and show it in a video element. */
export async function startCamera(video) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Refusal("Browsers give cameras to https and localhost only. Serve the page with a certificate.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 960 } },
    });
  } catch (error) {
    throw new Refusal(REASONS[error.name] ?? `The camera does not start: ${error.message}`);
  }
  video.srcObject = stream;
  await video.play();
  return stream;
}

/** Stop the camera. */
export function stopCamera(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}

/** Take the frame that the camera shows now. */
export const frameOf = (video) => createImageBitmap(video, { colorSpaceConversion: "none" });
