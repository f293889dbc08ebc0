#include "imageservice/worker/archive_task.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <set>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/archive_output.h"
#include "imageservice/worker/archive_writer.h"
#include "imageservice/worker/sandbox.h"

namespace imageservice::worker {
namespace {

constexpr uint64_t kMemory = uint64_t{1} << 30;
constexpr absl::Duration kProgressInterval = absl::Milliseconds(250);

absl::Status Confine(Role role, const std::vector<std::string>& readable,
                     const std::vector<int>& writable,
                     const std::function<void(const Warning&)>& warn) {
  ASSIGN_OR_RETURN(const Landlock landlock, ConfineFiles(readable, writable));
  if (landlock == Landlock::kMissing) {
    warn(
        {"the kernel has no Landlock: archives are confined by capabilities and system calls "
         "only"});
  }
  RETURN_IF_ERROR(DropCapabilities(role));
  RETURN_IF_ERROR(LimitMemory(kMemory));
  return FilterSystemCalls(role);
}

absl::StatusOr<ArchiveReply> List(const ListRequest& request,
                                  const std::function<void(const Warning&)>& warn) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ArchiveSource> source,
                   OpenArchiveConfined(request.path, warn));
  ArchiveListing listing;
  ASSIGN_OR_RETURN(listing.images, source->Images(request.platform));
  return ArchiveReply(std::move(listing));
}

absl::StatusOr<ArchiveReply> Save(const SaveRequest& request,
                                  const std::function<void(const ArchiveReply&)>& send) {
  const bool is_layout = request.format == ArchiveFormat::kOciLayout;
  ASSIGN_OR_RETURN(base::UniqueFd fd,
                   base::Open(request.path, (is_layout ? O_RDONLY | O_DIRECTORY : O_WRONLY) |
                                                O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  std::set<std::string> directories;
  for (const ImageToSave& image : request.images) {
    directories.insert(image.directories.begin(), image.directories.end());
  }
  RETURN_IF_ERROR(Confine(Role::kArchiveWriter, {directories.begin(), directories.end()},
                          is_layout ? std::vector<int>{fd.get()} : std::vector<int>(),
                          [&](const Warning& warning) { send(warning); }));
  ASSIGN_OR_RETURN(const std::unique_ptr<ArchiveOutput> output,
                   ArchiveOutput::Create(std::move(fd)));
  absl::Time told = absl::Now();
  ASSIGN_OR_RETURN(SavedArchive saved, WriteArchive(request, output.get(), [&](uint64_t bytes) {
                     if (const absl::Time now = absl::Now(); now - told >= kProgressInterval) {
                       told = now;
                       send(Progress{.bytes_done = bytes, .bytes_total = 0});
                     }
                   }));
  return ArchiveReply(std::move(saved));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ArchiveSource>> OpenArchiveConfined(
    const std::string& path, const std::function<void(const Warning&)>& warn) {
  // A FIFO or a device must not hold us up; what it is, is looked at afterwards.
  ASSIGN_OR_RETURN(base::UniqueFd fd, base::Open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY));
  struct stat found = {};
  std::vector<std::string> readable;
  if (fstat(fd.get(), &found) == 0 && S_ISDIR(found.st_mode)) {
    readable.push_back(base::StrCat("/proc/self/fd/", fd.get()));
  }
  RETURN_IF_ERROR(Confine(Role::kArchiveReader, readable, {}, warn));
  return ArchiveSource::Open(std::move(fd));
}

ArchiveReply RunArchiveRequest(const ArchiveRequest& request,
                               const std::function<void(const ArchiveReply&)>& send) {
  absl::StatusOr<ArchiveReply> reply = absl::InternalError("no request");
  std::string path;
  if (const auto* list = std::get_if<ListRequest>(&request)) {
    path = list->path;
    reply = List(*list, [&](const Warning& warning) { send(warning); });
  } else {
    path = std::get<SaveRequest>(request).path;
    reply = Save(std::get<SaveRequest>(request), send);
  }
  if (reply.ok()) {
    return *std::move(reply);
  }
  // The system's own message names the path already.
  const std::string_view message = base::ToStd(reply.status().message());
  return Failed{message.find(path) != std::string_view::npos
                    ? reply.status()
                    : base::Annotate(reply.status(), path)};
}

}  // namespace imageservice::worker
