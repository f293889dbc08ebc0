#include "runtimeservice/host_paths.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"

namespace runtimeservice {
namespace {

constexpr int kThreads = 64;  // Each can hang at another path.
constexpr size_t kQueued = 1024;

absl::Status HangsError(const std::string& field, const std::string& path) {
  return absl::DeadlineExceededError(
      base::StrCat(field.empty() ? "host paths" : field, ": ",
                   path.empty() ? "no thread is free to look at it" : path + " does not answer"));
}

}  // namespace

// What looks have in common; outlives this object with those that hang.
struct HostPaths::Shared {
  base::Mutex mutex;
  // The paths that looks nobody waits for are at, and how many of them.
  std::map<std::string, int> hanging ABSL_GUARDED_BY(mutex);
};

// One look; owned by its thread and by who waits for it.
struct HostPaths::Job {
  std::shared_ptr<Shared> shared;
  std::function<void(Progress&)> look;
  base::UniqueFd ended;  // Becomes readable.
  std::string field ABSL_GUARDED_BY(shared->mutex);
  std::string path ABSL_GUARDED_BY(shared->mutex);
  bool abandoned ABSL_GUARDED_BY(shared->mutex) = false;

  // Leaves the path it is at.
  void Leave() ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared->mutex) {
    if (abandoned && !path.empty()) {
      const auto found = shared->hanging.find(path);
      if (--found->second == 0) {
        shared->hanging.erase(found);
      }
    }
    path.clear();
  }
};

absl::Status HostPaths::Progress::At(std::string field, std::string path) {
  const base::MutexLock lock(&job_->shared->mutex);
  job_->Leave();
  if (job_->abandoned) {
    return absl::CancelledError("nobody waits for it");
  }
  if (job_->shared->hanging.contains(path)) {
    return HangsError(field, path);
  }
  job_->field = std::move(field);
  job_->path = std::move(path);
  return absl::OkStatus();
}

HostPaths::HostPaths(absl::Duration limit)
    : limit_(limit),
      shared_(std::make_shared<Shared>()),
      lane_(std::make_unique<base::Lane>("host-paths", kThreads, kQueued)) {}

HostPaths::~HostPaths() {
  const base::MutexLock lock(&shared_->mutex);
  if (!shared_->hanging.empty()) {
    base::LogWarning("not waited for: ", shared_->hanging.begin()->first, " does not answer");
    (void)lane_.release();
  }
}

absl::Status HostPaths::Run(const base::Context& ctx, std::function<void(Progress&)> look) {
  auto job = std::make_shared<Job>();
  job->shared = shared_;
  job->look = std::move(look);
  job->ended = base::UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!job->ended.valid()) {
    return base::ErrnoStatus(errno, "eventfd");
  }
  RETURN_IF_ERROR(lane_->Post([job] {
    Progress progress(job.get());
    bool wanted = false;
    {
      const base::MutexLock lock(&job->shared->mutex);
      wanted = !job->abandoned;
    }
    if (wanted) {
      job->look(progress);
    }
    {
      const base::MutexLock lock(&job->shared->mutex);
      job->Leave();
    }
    eventfd_write(job->ended.get(), 1);
  }));
  const absl::Duration left = ctx.deadline() - base::SteadyTime::Now();
  const base::Context limited = ctx.WithTimeout(std::min(limit_, left / 2));
  absl::Status status;
  for (pollfd fds[2] = {{job->ended.get(), POLLIN, 0}, {limited.cancel_fd(), POLLIN, 0}};;) {
    const int ready = poll(fds, 2, limited.PollTimeout());
    if (ready > 0 && fds[0].revents != 0) {
      return absl::OkStatus();
    }
    if (status = limited.Check(); !status.ok()) {
      break;
    }
  }
  const base::MutexLock lock(&job->shared->mutex);
  job->abandoned = true;
  if (!job->path.empty()) {
    ++job->shared->hanging[job->path];
  }
  return absl::IsDeadlineExceeded(status) ? HangsError(job->field, job->path) : status;
}

}  // namespace runtimeservice
