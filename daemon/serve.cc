#include "daemon/serve.h"

#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/files.h"
#include "base/launcher.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "daemon/crisp_rpcs.h"
#include "daemon/dispatch.h"
#include "daemon/image_rpcs.h"
#include "daemon/in_flight.h"
#include "daemon/instance_lock.h"
#include "daemon/lanes.h"
#include "daemon/liveness.h"
#include "daemon/notify.h"
#include "daemon/runtime_rpcs.h"
#include "daemon/server.h"
#include "daemon/services.h"

namespace crispd {
namespace {

// Less than systemd's default TimeoutStopSec; what is cancelled then is finished by the next start.
constexpr absl::Duration kDrainLimit = absl::Seconds(20);

// Blocks the signals that TakeSignal waits for, in this thread and all that it starts.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGHUP}) {
    sigaddset(&signals, signal);
  }
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

// The next of `signals`, or 0 when `timeout` passed.
int TakeSignal(const sigset_t& signals, absl::Duration timeout) {
  for (;;) {
    const timespec limit = absl::ToTimespec(timeout);
    const int taken = timeout == absl::InfiniteDuration() ? sigwaitinfo(&signals, nullptr)
                                                          : sigtimedwait(&signals, nullptr, &limit);
    if (taken > 0) return taken;
    if (errno == EAGAIN) return 0;
  }
}

// Descriptors for every container's monitor and pins, up to what the unit allows.
void RaiseFileLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
      base::LogWarning("the limit of open files stays as it is: ",
                       base::ErrnoStatus(errno, "setrlimit").message());
    }
  }
}

// In a mount namespace of our own the containers' mounts would never reach the host's processes,
// and network namespaces pinned by us would be empty files to others.
void WarnOfPrivateMounts() {
  struct stat ours;
  struct stat hosts;
  if (stat("/proc/self/ns/mnt", &ours) == 0 && stat("/proc/1/ns/mnt", &hosts) == 0 &&
      ours.st_ino != hosts.st_ino) {
    base::LogWarning(
        "crisp runs in a mount namespace other than PID 1's: its mounts and namespaces may not "
        "reach "
        "the host (no Private* or Protect* settings in its unit)");
  }
}

void LogOperations(const InFlight& in_flight, const Lanes& lanes) {
  const std::vector<Operation> operations = in_flight.List();
  base::LogInfo(operations.size(), " operations in flight");
  const absl::Time now = absl::Now();
  for (const Operation& operation : operations) {
    base::LogInfo("in flight: ", Describe(operation, now));
  }
  for (const base::Lane* lane : lanes.All()) {
    const base::Lane::Load load = lane->load();
    base::LogInfo("lane ", lane->name(), ": ", load.threads, " threads, ", load.idle, " idle, ",
                  load.queued, " queued, ", load.rejected, " refused since the start");
  }
}

void Tell(const Notifier& notifier, std::string_view state) {
  if (absl::Status sent = notifier.Send(state); !sent.ok()) {
    base::LogWarning("systemd was not told: ", base::ToStd(sent.message()));
  }
}

// The linker's names for the borders of the program's code.
extern "C" const char __executable_start[];
extern "C" const char etext[];

// The start runs much code and makes much garbage that serving never needs again: lets go of both.
// Pages of code that are needed come back from the page cache at the price of a minor fault.
void GiveBackStartMemory() {
  malloc_trim(0);
  const auto page = static_cast<uintptr_t>(getpagesize());
  const uintptr_t begin = reinterpret_cast<uintptr_t>(__executable_start) & ~(page - 1);
  const uintptr_t end = reinterpret_cast<uintptr_t>(etext) & ~(page - 1);
  if (madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED) != 0) {
    base::LogDebug("code of the start stays in memory: ", strerror(errno));
  }
}

// Returns when a signal asks for the end.
void ServeUntilAsked(const sigset_t& signals, const Notifier& notifier, const InFlight& in_flight,
                     const Lanes& lanes, Liveness* liveness) {
  base::SteadyTime next_ping = base::SteadyTime::Now() + notifier.watchdog_interval();
  for (;;) {
    const absl::Duration left = std::max(next_ping - base::SteadyTime::Now(), absl::ZeroDuration());
    switch (const int signal = TakeSignal(signals, left)) {
      case 0:
        if (absl::Status alive = liveness->Check(); alive.ok()) {
          Tell(notifier, "WATCHDOG=1");
        } else {
          base::LogError("no sign of life for the watchdog: ", base::ToStd(alive.message()));
        }
        next_ping = base::SteadyTime::Now() + notifier.watchdog_interval();
        break;
      case SIGUSR1:
        LogOperations(in_flight, lanes);
        break;
      case SIGHUP:
        base::LogInfo("SIGHUP: the configuration is read at the start only");
        break;
      default:
        base::LogInfo("ending on ", strsignal(signal), ", containers run on");
        return;
    }
  }
}

}  // namespace

absl::Status Serve(const Config& config) {
  const sigset_t signals = BlockSignals();
  const Notifier notifier = Notifier::FromEnvironment();
  base::LogInfo("crisp ", CRISP_VERSION, " starts: configuration ",
                config.files.empty() ? "without a file" : absl::StrJoin(config.files, ", "),
                ", root ", config.root, ", runroot ", config.runroot, ", socket ", config.listen);
  // Remembers the limits children get back, so before ours are raised.
  const base::Launcher launcher(config.init_path, config.work_cgroup);
  RaiseFileLimit();
  RouteGrpcLog();
  WarnOfPrivateMounts();
  ASSIGN_OR_RETURN(const InstanceLock root_lock, InstanceLock::Acquire(config.root));
  RETURN_IF_ERROR(base::MakeDirectories(config.runroot));
  ASSIGN_OR_RETURN(const InstanceLock run_lock, InstanceLock::Acquire(config.runroot));

  Lanes lanes;
  InFlight in_flight;
  Dispatcher dispatcher(&in_flight);
  ASSIGN_OR_RETURN(const std::unique_ptr<Services> services, BuildServices(config, launcher));
  const std::unique_ptr<grpc::Service> runtime =
      MakeRuntimeRpcs(services->runtime.get(), &dispatcher, &lanes, [services = services.get()] {
        return std::map<std::string, std::string>{{"pulls", services->PullsJson()},
                                                  {"imageProblems", services->ImageProblemsJson()}};
      });
  const std::unique_ptr<grpc::Service> image =
      MakeImageRpcs(services->image.get(), &dispatcher, &lanes);
  const std::unique_ptr<grpc::Service> crisp =
      MakeCrispRpcs(services->image.get(), &dispatcher, &lanes);
  ASSIGN_OR_RETURN(
      const std::unique_ptr<Server> server,
      Server::Start({.socket = config.listen,
                     .max_send_bytes = static_cast<int>(config.grpc_max_send_msg_size),
                     .max_receive_bytes = static_cast<int>(config.grpc_max_recv_msg_size)},
                    {runtime.get(), image.get(), crisp.get()}));
  base::LogInfo("crisp ", CRISP_VERSION, " serves on ", config.listen);
  Tell(notifier, base::StrCat("READY=1\nMAINPID=", getpid()));

  GiveBackStartMemory();
  Liveness liveness(&lanes, services->check_alive);
  ServeUntilAsked(signals, notifier, in_flight, lanes, &liveness);
  Tell(notifier, "STOPPING=1");
  if (!server->Drain(kDrainLimit)) {
    base::LogWarning("requests are stuck; the next start cleans up after them");
    LogOperations(in_flight, lanes);
    _exit(0);
  }
  return absl::OkStatus();
}

}  // namespace crispd
