// A layer's directory → its archive: the other way of unpack.h.
#pragma once

#include <functional>
#include <string_view>

#include "absl/status/status.h"

namespace imageservice::worker {

// Takes a piece of the archive; the piece dies when it returns. An error ends the writing.
using ArchiveSink = std::function<absl::Status(std::string_view)>;

// Writes the overlay layer at the open directory `root` as a tar archive (OCI image-spec,
// layer.md): entries sorted by their names' bytes, numeric owners, whiteouts and opaque directories
// as ".wh." files, hard links within the layer, xattrs but for those of overlayfs and SELinux. The
// same tree always gives the same bytes, and unpacking them gives the same tree. The directory must
// not change meanwhile. What no archive can hold (sockets) is left out. Opaque marks are trusted
// xattrs: reading them takes CAP_SYS_ADMIN.
absl::Status WriteLayerArchive(int root, const ArchiveSink& sink);

}  // namespace imageservice::worker
