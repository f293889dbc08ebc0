#include "imageservice/worker/parser_process.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "imageservice/worker/artifact_file.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/sandbox.h"
#include "imageservice/worker/unpack.h"

namespace imageservice::worker {
namespace {

constexpr uint64_t kMemory = uint64_t{512} << 20;

// The parser's codes are about an archive, never about a name the daemon asked for.
absl::Status ParserStatus(const absl::Status& status) {
  if (absl::IsNotFound(status) || absl::IsAlreadyExists(status) || absl::IsOutOfRange(status)) {
    return absl::InternalError(std::string(base::ToStd(status.message())));
  }
  return status;
}

// Landlock leaves chmod, chown and setxattr alone: what keeps these at home is that no path and no
// descriptor of this process leads out of its folder.
absl::Status Confine(int root) {
  RETURN_IF_ERROR(EnterRoot(root));
  RETURN_IF_ERROR(ConfineFiles({}, {root}).status());
  RETURN_IF_ERROR(DropCapabilities(Role::kParser));
  RETURN_IF_ERROR(LimitMemory(kMemory));
  return FilterSystemCalls(Role::kParser);
}

absl::StatusOr<UnpackedLayer> Parse(const ParserTask& task) {
  umask(0);
  if (mkdirat(task.staging, task.directory.c_str(), 0755) != 0) {
    return base::ErrnoStatus(errno, "make the layer's folder");
  }
  const base::UniqueFd root(openat(task.staging, task.directory.c_str(),
                                   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!root.valid()) {
    return base::ErrnoStatus(errno, "open the layer's folder");
  }
  close(task.staging);
  RETURN_IF_ERROR(Confine(root.get()));
  ASSIGN_OR_RETURN(LayerTree::Summary summary,
                   task.file_name.empty()
                       ? UnpackLayer(task.archive, root.get(), task.max_entries)
                       : WriteArtifactFile(task.archive, root.get(), task.file_name));
  return UnpackedLayer{summary.bytes, summary.inodes, std::move(summary.deferred)};
}

}  // namespace

void RunParser(const ParserTask& task) {
  absl::StatusOr<UnpackedLayer> unpacked = Parse(task);
  const bool is_good = unpacked.ok();
  const LayerMessage message = is_good ? LayerMessage(*std::move(unpacked))
                                       : LayerMessage(Failed{ParserStatus(unpacked.status())});
  const bool is_told = base::WriteAll(task.words, Encode(message), "the parser's words").ok();
  _exit(is_good && is_told ? 0 : 1);
}

}  // namespace imageservice::worker
