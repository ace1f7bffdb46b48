"""Files of video: streams, times, codecs, containers, color tags."""
