#include "imageservice/store/trash.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
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

// A name that nobody has, with the numbers in it: the next life must know them too.
std::string NameFor(const DiskUsage& counted) {
  return base::StrCat(base::RandomHex64(), ".", counted.bytes, ".", counted.inodes);
}

DiskUsage CountedIn(const std::string& name) {
  const std::vector<std::string> parts = absl::StrSplit(name, '.');
  DiskUsage counted;
  const bool good = parts.size() == 3 && absl::SimpleAtoi(parts[1], &counted.bytes) &&
                    absl::SimpleAtoi(parts[2], &counted.inodes);
  return good ? counted : DiskUsage();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Trash>> Trash::Open(std::string directory, base::Lane* lane) {
  RETURN_IF_ERROR(base::MakeDirectories(directory, 0700));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, base::ListDirectory(directory));
  std::unique_ptr<Trash> trash(new Trash(std::move(directory), lane));
  for (const std::string& name : names) {
    trash->Unlink(base::StrCat(trash->directory_, "/", name), CountedIn(name));
  }
  return trash;
}

absl::StatusOr<Trash::Removal> Trash::Discard(const std::string& path, const DiskUsage& counted) {
  const std::string away = base::StrCat(directory_, "/", NameFor(counted));
  if (rename(path.c_str(), away.c_str()) != 0) {
    if (errno == ENOENT) {
      return Removal();
    }
    return base::ErrnoStatus(errno, base::StrCat("move ", path, " to the trash"));
  }
  return Unlink(away, counted);
}

void Trash::Wait(const base::Context& ctx, const std::vector<Removal>& removals) {
  const absl::Duration half =
      std::min(kLongestWait, (ctx.deadline() - base::SteadyTime::Now()) / 2);
  const base::Context limited = ctx.WithTimeout(half);
  for (const Removal& removal : removals) {
    if (removal != nullptr && !removal->Wait(limited).ok()) {
      return;  // The rest goes on in the background.
    }
  }
}

DiskUsage Trash::pending() const {
  base::MutexLock lock(&mutex_);
  return pending_;
}

Trash::Removal Trash::Unlink(const std::string& path, const DiskUsage& counted) {
  {
    base::MutexLock lock(&mutex_);
    pending_ += counted;
  }
  auto removal = std::make_shared<Event>();
  const auto task = [this, path, counted, removal] {
    Remove(path, counted);
    removal->Set();
  };
  if (!lane_->Post(task).ok()) {
    task();  // The lane is full: whoever deletes then does the work.
  }
  return removal;
}

void Trash::Remove(const std::string& path, const DiskUsage& counted) {
  absl::Status status;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    status = base::RemoveTree(path);
    if (status.ok()) {
      base::MutexLock lock(&mutex_);
      pending_.bytes -= counted.bytes;
      pending_.inodes -= counted.inodes;
      return;
    }
    absl::SleepFor(kPause);
  }
  base::LogError("left until the next start: ", base::ToStd(status.message()));
}

}  // namespace imageservice
