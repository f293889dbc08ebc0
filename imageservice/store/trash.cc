#include "imageservice/store/trash.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/id.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice {
namespace {

constexpr absl::Duration kLongestWait = absl::Minutes(1);
// A process that was just killed may still be adding files for a moment.
constexpr int kAttempts = 20;
constexpr absl::Duration kPause = absl::Milliseconds(50);

void Remove(const std::string& path) {
  absl::Status status;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    status = base::RemoveTree(path);
    if (status.ok()) {
      return;
    }
    absl::SleepFor(kPause);
  }
  base::LogError("left until the next start: ", base::ToStd(status.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Trash>> Trash::Open(std::string directory, base::Lane* lane) {
  RETURN_IF_ERROR(base::MakeDirectories(directory, 0700));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, base::ListDirectory(directory));
  std::unique_ptr<Trash> trash(new Trash(std::move(directory), lane));
  for (const std::string& name : names) {
    trash->Unlink(base::StrCat(trash->directory_, "/", name));
  }
  return trash;
}

absl::StatusOr<Trash::Removal> Trash::Discard(const std::string& path) {
  const std::string away = base::StrCat(directory_, "/", base::RandomHex64());
  if (rename(path.c_str(), away.c_str()) != 0) {
    if (errno == ENOENT) {
      return Removal();
    }
    return base::ErrnoStatus(errno, base::StrCat("move ", path, " to the trash"));
  }
  return Unlink(away);
}

void Trash::Wait(const base::Context& ctx, const std::vector<Removal>& removals) {
  const absl::Duration half = std::min(kLongestWait, (ctx.deadline() - absl::Now()) / 2);
  const base::Context limited = ctx.WithTimeout(half);
  for (const Removal& removal : removals) {
    if (removal != nullptr && !removal->Wait(limited).ok()) {
      return;  // The rest goes on in the background.
    }
  }
}

Trash::Removal Trash::Unlink(const std::string& path) {
  auto removal = std::make_shared<Event>();
  const absl::Status posted = lane_->Post([path, removal] {
    Remove(path);
    removal->Set();
  });
  if (!posted.ok()) {
    Remove(path);  // The lane is full: whoever deletes then does the work.
    removal->Set();
  }
  return removal;
}

}  // namespace imageservice
