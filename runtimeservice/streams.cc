#include "runtimeservice/streams.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/cgroup.h"
#include "base/files.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/subprocess.h"
#include "base/undo.h"
#include "runtimeservice/oci/runtime.h"
#include "runtimeservice/streaming/protocol.h"

namespace runtimeservice {
namespace {

namespace stream = crisp::stream;

constexpr int kMonitorOomScore = -998;  // As the monitors': it serves all pods.
constexpr absl::Duration kLaunchTime = absl::Seconds(20);
constexpr absl::Duration kAskTime = absl::Seconds(20);
constexpr absl::Duration kAdoptTime = absl::Seconds(2);
constexpr absl::Duration kLookTime = absl::Milliseconds(200);
constexpr absl::Duration kSweepTime = absl::Seconds(30);
constexpr absl::Duration kRetryTime = absl::Seconds(2);
constexpr int kAttempts = 3;  // An instance may end just when it is asked.

absl::Status NoServer(std::string_view why) {
  return absl::FailedPreconditionError(base::StrCat("start the streaming server: ", why));
}

// Asks over a connection of its own.
absl::StatusOr<stream::Reply> AskAt(const Context& ctx, const std::string& directory,
                                    const stream::Request& request) {
  ASSIGN_OR_RETURN(const base::UniqueFd socket, streaming::ConnectControl(ctx, directory));
  return streaming::Ask(ctx, socket.get(), request);
}

stream::Request Identify() {
  stream::Request request;
  request.mutable_identify();
  return request;
}

// The lock of a dead instance, so that none can be born there; UNAVAILABLE while one lives.
absl::StatusOr<base::UniqueFd> LockDead(const std::string& directory) {
  absl::StatusOr<base::UniqueFd> lock =
      base::Open(directory + streaming::kLockFile, O_RDWR | O_CREAT | O_CLOEXEC);
  if (!lock.ok()) {
    return lock.status();
  }
  if (flock(lock->get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::UnavailableError(base::StrCat(directory, " belongs to a process that lives"));
  }
  return lock;
}

}  // namespace

StreamServers::StreamServers(StreamsConfig config, std::string directory,
                             const base::Launcher& launcher, EventLoop& loop, KillExec kill_exec)
    : config_(std::move(config)),
      directory_(std::move(directory)),
      launcher_(launcher),
      loop_(loop),
      kill_exec_(std::move(kill_exec)),
      sweeps_("stream-sweeps", 1, 1024) {}

StreamServers::~StreamServers() { Stop(); }

void StreamServers::Stop() { sweeps_.Stop(); }

void StreamServers::Recover() {
  const absl::StatusOr<std::vector<std::string>> names = base::ListDirectory(directory_);
  for (const std::string& name : names.value_or(std::vector<std::string>())) {
    if (streaming::IsInstanceName(name)) {
      Adopt(name);
    }
  }
}

absl::StatusOr<std::string> StreamServers::Open(const Context& ctx, const MakeSession& make) {
  const Context limited = ctx.WithTimeout(kAskTime);
  absl::Status ended;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    ASSIGN_OR_RETURN(const InstanceRef instance, Current(ctx));
    ASSIGN_OR_RETURN(stream::Session session, make(instance->directory));
    stream::Request request;
    *request.mutable_open() = std::move(session);
    absl::StatusOr<stream::Reply> reply = AskAt(limited, instance->directory, request);
    ended = reply.ok() ? streaming::ReplyStatus(*reply) : reply.status();
    if (ended.ok()) {
      return std::move(*reply->mutable_url());
    }
    if (!absl::IsUnavailable(ended)) {
      return base::Annotate(ended, "ask the streaming server");
    }
    Forget(instance);
  }
  return base::Annotate(ended, "ask the streaming server");
}

absl::StatusOr<StreamServers::InstanceRef> StreamServers::Current(const Context& ctx) {
  const absl::StatusOr<std::string> fingerprint =
      streaming::Fingerprint(config_.program, config_.settings);
  InstanceRef outdated;
  {
    const base::CancelCallback wake(ctx, [this] { launched_.NotifyAll(); });
    base::MutexLock lock(&mutex_);
    while (launching_ && ctx.Check().ok()) {
      launched_.WaitUntil(&mutex_, ctx.deadline());
    }
    RETURN_IF_ERROR(ctx.Check());
    // While its program is being replaced it goes on.
    if (current_ && (!fingerprint.ok() || *fingerprint == current_->fingerprint)) {
      return current_;
    }
    if (!fingerprint.ok()) {
      return NoServer(base::StrCat("crisp.api.stream_path: ", fingerprint.status().message()));
    }
    launching_ = true;
    outdated = std::exchange(current_, nullptr);
  }
  if (outdated) {
    Retire(*outdated);  // First, for it may have the port.
  }
  // Not for this caller alone.
  absl::StatusOr<InstanceRef> made = Launch(Context::Detached(kLaunchTime), *fingerprint);
  base::MutexLock lock(&mutex_);
  launching_ = false;
  launched_.NotifyAll();
  if (made.ok()) {
    current_ = *made;
  }
  return made;
}

absl::StatusOr<StreamServers::InstanceRef> StreamServers::Launch(const Context& ctx,
                                                                 const std::string& fingerprint) {
  const std::string name = base::RandomHex64().substr(0, 8);
  const std::string directory = DirectoryOf(name);
  base::Undo undo;
  undo.Add([&] {
    if (const absl::Status swept = Sweep(name); !swept.ok()) {
      base::LogWarning("streaming: ", base::ToStd(swept.message()));
      SweepLater(name, kRetryTime);
    }
  });
  RETURN_IF_ERROR(base::MakeDirectories(directory, 0700));
  RETURN_IF_ERROR(base::ReplaceFile(directory + streaming::kCgroupFile,
                                    base::StrCat(config_.cgroup, "/", name), 0600,
                                    base::Durability::kVolatile));
  RETURN_IF_ERROR(base::MakeCgroup(CgroupOf(name)));
  ASSIGN_OR_RETURN(const base::UniqueFd socket, Spawn(ctx, name));
  stream::Settings settings = config_.settings;
  settings.set_directory(directory);
  settings.set_fingerprint(fingerprint);
  stream::Started started;
  absl::Status status = streaming::SendMessage(ctx, socket.get(), settings);
  if (status.ok()) {
    status = streaming::ReceiveMessage(ctx, socket.get(), &started);
  }
  if (!status.ok()) {
    return NoServer(
        base::StrCat(config_.program, ": ", status.message(), "; its words are in the log"));
  }
  if (!started.error().empty()) {
    return NoServer(started.error());
  }
  ASSIGN_OR_RETURN(InstanceRef instance, Connect(ctx, name));
  undo.Commit();
  base::LogInfo("streaming server ", instance->pid, " serves on port ", started.port());
  return instance;
}

absl::StatusOr<base::UniqueFd> StreamServers::Spawn(const Context& ctx,
                                                    const std::string& name) const {
  if (access(config_.program.c_str(), X_OK) != 0) {
    return NoServer(base::StrCat("crisp.api.stream_path: ",
                                 base::ErrnoStatus(errno, config_.program).message()));
  }
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return base::ErrnoStatus(errno, "make a socket pair");
  }
  base::UniqueFd ours(ends[0]);
  const base::UniqueFd theirs(ends[1]);
  base::Command command;
  command.argv = {config_.program};
  command.env = RuntimeEnvironment();
  command.directory = "/";
  command.stderr_fd = STDERR_FILENO;
  command.extra_fds = {{streaming::kStartSocket, theirs.get()}};
  base::Launcher::Options options;
  options.oom_score_adj = kMonitorOomScore;
  options.cgroup = CgroupOf(name);
  options.all_hierarchies = true;
  options.orphan = true;
  ASSIGN_OR_RETURN(base::Subprocess process,
                   base::Subprocess::Spawn(launcher_.Wrap(std::move(command), options)));
  ASSIGN_OR_RETURN(const base::ExitState exit, process.Wait(ctx));
  if (exit.code != 0) {
    return NoServer(base::StrCat("crisp-init ended with ", exit.code));
  }
  return ours;
}

absl::StatusOr<StreamServers::InstanceRef> StreamServers::Connect(const Context& ctx,
                                                                  const std::string& name) {
  auto instance = std::make_shared<Instance>();
  instance->directory = DirectoryOf(name);
  ASSIGN_OR_RETURN(instance->watch, streaming::ConnectControl(ctx, instance->directory));
  ASSIGN_OR_RETURN(const stream::Reply reply,
                   streaming::Ask(ctx, instance->watch.get(), Identify()));
  RETURN_IF_ERROR(streaming::ReplyStatus(reply));
  instance->pid = reply.pid();
  // One that is retired fits nothing.
  instance->fingerprint = reply.retired() ? "" : reply.fingerprint();
  base::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(instance->watched, loop_.OnHangup(instance->watch.get(), [this, name] {
    SweepLater(name, absl::ZeroDuration());
  }));
  live_[name] = instance;
  return instance;
}

void StreamServers::Retire(const Instance& instance) const {
  stream::Request request;
  request.mutable_retire();
  const absl::StatusOr<stream::Reply> reply =
      AskAt(Context::Detached(kAdoptTime), instance.directory, request);
  if (!reply.ok() && !absl::IsUnavailable(reply.status())) {
    base::LogWarning("retire the streaming server ", instance.pid, ": ",
                     base::ToStd(reply.status().message()));
  }
}

void StreamServers::Forget(const InstanceRef& instance) {
  base::MutexLock lock(&mutex_);
  if (current_ == instance) {
    current_ = nullptr;
  }
}

void StreamServers::Adopt(const std::string& name) {
  const absl::Status swept = Sweep(name);
  if (swept.ok()) {
    return;
  }
  const absl::StatusOr<InstanceRef> instance = Connect(Context::Detached(kAdoptTime), name);
  if (!instance.ok()) {
    base::LogWarning("take up a streaming server, to be tried again: ",
                     base::ToStd(instance.status().message()));
    SweepLater(name, kRetryTime);
    return;
  }
  const absl::StatusOr<std::string> fingerprint =
      streaming::Fingerprint(config_.program, config_.settings);
  {
    base::MutexLock lock(&mutex_);
    if (!current_ && !launching_ && fingerprint.ok() && (*instance)->fingerprint == *fingerprint) {
      current_ = *instance;
      base::LogInfo("streaming server ", (*instance)->pid, " taken up");
      return;
    }
  }
  Retire(**instance);
}

void StreamServers::SweepLater(const std::string& name, absl::Duration delay) {
  loop_.At(base::SteadyTime::Now() + delay, [this, name] {
    const absl::Status posted = sweeps_.Post([this, name] {
      bool known = false;
      {
        base::MutexLock lock(&mutex_);
        if (const auto found = live_.find(name); found != live_.end()) {
          known = true;
          if (current_ == found->second) {
            current_ = nullptr;
          }
        }
      }
      if (!known) {
        Adopt(name);
      } else if (!Sweep(name).ok()) {
        SweepLater(name, kRetryTime);
      }
    });
    if (!posted.ok()) {
      base::LogDebug("streaming: ", base::ToStd(posted.message()));
    }
  });
}

absl::Status StreamServers::Sweep(const std::string& name) {
  const std::string directory = DirectoryOf(name);
  if (base::Exists(directory)) {
    ASSIGN_OR_RETURN(const base::UniqueFd lock, LockDead(directory));
    const Context ctx = Context::Detached(kSweepTime);
    // One that was about to be born, runtimes that were about to start something, and those who
    // wait for commands: first, so that what they would have started next is not missed.
    RETURN_IF_ERROR(base::KillCgroup(ctx, CgroupOf(name)));
    ASSIGN_OR_RETURN(const std::vector<std::string> names, base::ListDirectory(directory));
    for (const std::string& exec : names) {
      if (streaming::IsExecName(exec)) {
        kill_exec_(base::StrCat(directory, "/", exec));
      }
    }
    RETURN_IF_ERROR(base::RemoveCgroup(ctx, CgroupOf(name)));
    RETURN_IF_ERROR(base::RemoveTree(directory));
    base::LogDebug("streaming: ", directory, " is swept");
  }
  base::MutexLock lock(&mutex_);
  if (const auto found = live_.find(name); found != live_.end()) {
    loop_.Forget(found->second->watched);
    if (current_ == found->second) {
      current_ = nullptr;
    }
    live_.erase(found);
  }
  return absl::OkStatus();
}

std::string StreamServers::CgroupOf(const std::string& name) const {
  absl::StatusOr<std::string> cgroup =
      base::ReadFile(DirectoryOf(name) + streaming::kCgroupFile, 4096);
  return cgroup.ok() ? *std::move(cgroup) : base::StrCat(config_.cgroup, "/", name);
}

std::vector<std::string> StreamServers::Cgroups() const {
  std::vector<std::string> cgroups = {config_.cgroup};
  const absl::StatusOr<std::vector<std::string>> names = base::ListDirectory(directory_);
  for (const std::string& name : names.value_or(std::vector<std::string>())) {
    if (streaming::IsInstanceName(name)) {
      cgroups.push_back(CgroupOf(name));
    }
  }
  return cgroups;
}

std::string StreamServers::ToJson() const {
  std::vector<InstanceRef> live;
  {
    base::MutexLock lock(&mutex_);
    for (const auto& [name, instance] : live_) {
      live.push_back(instance);
    }
  }
  base::Json list = base::Json::array();
  const Context ctx = Context::Detached(kLookTime);
  for (const InstanceRef& instance : live) {
    base::Json entry = {{"pid", instance->pid}, {"directory", instance->directory}};
    const absl::StatusOr<stream::Reply> reply = AskAt(ctx, instance->directory, Identify());
    if (reply.ok()) {
      entry["port"] = reply->port();
      entry["sessions"] = reply->sessions();
      entry["retired"] = reply->retired();
    } else {
      entry["error"] = std::string(reply.status().message());
    }
    list.push_back(std::move(entry));
  }
  return base::DumpJson(list);
}

}  // namespace runtimeservice
