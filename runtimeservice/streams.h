// The daemon's side of crisp-stream (runtimeservice/streaming): started at the first request, found
// again by the next daemon, and swept away when it has ended.
//
// Every instance has a folder and a cgroup of the same name. URLs and sessions are its own: they go
// on when the daemon ends, and the daemon keeps no secret.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/lane.h"
#include "base/launcher.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "proto/stream.pb.h"
#include "runtimeservice/event_loop.h"

namespace runtimeservice {

using base::Context;

struct StreamsConfig {
  std::string program;               // crisp-stream
  std::string cgroup;                // Of all instances; each has one of its own in it.
  crisp::stream::Settings settings;  // Without those that each instance has for itself.
};

// Thread-safe; whatever takes a context blocks.
class StreamServers {
 public:
  // The session, given the folder of the instance that is to run it. Called again when that
  // instance has ended meanwhile.
  using MakeSession =
      std::function<absl::StatusOr<crisp::stream::Session>(const std::string& instance)>;
  // Ends what the exec with its files in `directory` has started. May block.
  using KillExec = std::function<void(const std::string& directory)>;

  // Instances lie in `directory`, which exists. The references must outlive this object, `loop` as
  // far as its thread: Stop, then end the loop, then this.
  StreamServers(StreamsConfig config, std::string directory, const base::Launcher& launcher,
                EventLoop& loop, KillExec kill_exec);
  ~StreamServers();
  StreamServers(const StreamServers&) = delete;
  StreamServers& operator=(const StreamServers&) = delete;

  // At the start of the daemon: takes up the instances that live, retires those with other settings
  // or of another program, sweeps the dead. The registry must know its containers.
  void Recover();

  // Gives the session to the present instance, which is started if there is none, and returns its
  // URL. FAILED_PRECONDITION when it cannot be started, with its own words; the next call tries
  // again. RESOURCE_EXHAUSTED when too many URLs wait.
  absl::StatusOr<std::string> Open(const Context& ctx, const MakeSession& make);

  // The cgroups that hold the processes of all instances, theirs of other configurations too.
  std::vector<std::string> Cgroups() const;

  // What lives, for people: an array of objects as JSON. Asks each, for a moment.
  std::string ToJson() const;

  // Ends the background work; nothing is swept any more.
  void Stop();

 private:
  struct Instance {
    std::string directory;
    std::string fingerprint;
    int pid = 0;
    base::UniqueFd watch;  // Hangs up when it ends.
    EventLoop::Watch watched = 0;
  };
  using InstanceRef = std::shared_ptr<Instance>;

  std::string DirectoryOf(const std::string& name) const { return directory_ + "/" + name; }
  // As its folder has it: the configuration may have been another one.
  std::string CgroupOf(const std::string& name) const;

  // The present instance, after one with the settings of now was started if need be.
  absl::StatusOr<InstanceRef> Current(const Context& ctx);
  absl::StatusOr<InstanceRef> Launch(const Context& ctx, const std::string& fingerprint);
  absl::StatusOr<base::UniqueFd> Spawn(const Context& ctx, const std::string& name) const;
  // Connects, asks who it is, and watches for its end.
  absl::StatusOr<InstanceRef> Connect(const Context& ctx, const std::string& name);
  void Retire(const Instance& instance) const;
  // No request goes to it any more.
  void Forget(const InstanceRef& instance);

  // Takes up the instance, or sweeps it when it is dead; again later when neither can be done.
  void Adopt(const std::string& name);
  // Removes what a dead instance left, its processes and commands first. UNAVAILABLE while it
  // lives.
  absl::Status Sweep(const std::string& name);
  void SweepLater(const std::string& name, absl::Duration delay);

  const StreamsConfig config_;
  const std::string directory_;
  const base::Launcher& launcher_;
  EventLoop& loop_;
  const KillExec kill_exec_;

  mutable base::Mutex mutex_;
  base::CondVar launched_;
  bool launching_ ABSL_GUARDED_BY(mutex_) = false;
  InstanceRef current_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, InstanceRef> live_ ABSL_GUARDED_BY(mutex_);  // By name.
  base::Lane sweeps_;
};

}  // namespace runtimeservice
