// crisp-stream: exec, attach and port-forward between callers and containers. One process for all,
// started by crisp at the first request; it outlives crisp and ends when it is not needed.

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "proto/stream.pb.h"
#include "runtimeservice/streaming/activity.h"
#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/http_door.h"
#include "runtimeservice/streaming/instance.h"
#include "runtimeservice/streaming/limits.h"
#include "runtimeservice/streaming/protocol.h"
#include "runtimeservice/streaming/runner.h"
#include "runtimeservice/streaming/spdy_command.h"
#include "runtimeservice/streaming/spdy_forward.h"
#include "runtimeservice/streaming/tls_context.h"
#include "runtimeservice/streaming/tokens.h"

// After async.h.
#include <boost/asio/signal_set.hpp>

namespace streaming {
namespace {

constexpr absl::Duration kStartTime = absl::Seconds(30);

constexpr char kUsage[] =
    "usage: crisp-stream [--help | --version]\n"
    "\n"
    "Serves exec, attach and port-forward. crisp starts it when it is asked for the first of "
    "them,\n"
    "and tells it all it needs; it ends when nobody has needed it for a minute.\n";

// What a fresh process of ours is, whoever started it.
void PrepareProcess() {
  mallopt(M_ARENA_MAX, 1);
  fcntl(kStartSocket, F_SETFD, FD_CLOEXEC);
  // Standard error may be a pipe whose reader ends with the daemon.
  for (const int ignored : {SIGPIPE, SIGHUP}) {
    signal(ignored, SIG_IGN);
  }
  umask(022);
  if (chdir("/") != 0) {
    base::LogWarning("streaming: the working directory stays: ", std::strerror(errno));
  }
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

// The folder's lock, for as long as the process lives.
absl::StatusOr<base::UniqueFd> TakeLock(const std::string& directory) {
  ASSIGN_OR_RETURN(base::UniqueFd lock,
                   base::Open(directory + kLockFile, O_RDWR | O_CREAT | O_CLOEXEC));
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("lock ", directory));
  }
  return lock;
}

absl::Status Tell(const crisp::stream::Started& started) {
  const base::UniqueFd socket(kStartSocket);
  return SendMessage(base::Context::Detached(kStartTime), socket.get(), started);
}

// Ends the process at once: what runs in containers is the daemon's to end then.
Task<> EndOnSignal(asio::io_context& loop, Instance& instance) {
  asio::signal_set signals(loop, SIGTERM, SIGINT, SIGCONT);
  for (;;) {
    Error error;
    const int number = co_await signals.async_wait(Await(error));
    if (error || number != SIGCONT) {
      base::LogInfo("streaming: ends on ", strsignal(number));
      loop.stop();
      co_return;
    }
    // systemd's KillSignal for crisp-monitors.service.
    instance.EndSoon();
  }
}

Task<> RunToEnd(asio::io_context& loop, Instance& instance) {
  co_await instance.Run();
  loop.stop();
}

Limits LimitsOf(const crisp::stream::Settings& settings) {
  return {.max_streams = settings.max_streams(),
          .max_frame_bytes = settings.max_frame_bytes(),
          .max_header_bytes = settings.max_header_bytes(),
          .creation = absl::Seconds(settings.creation_seconds()),
          .idle = absl::Seconds(settings.idle_seconds())};
}

absl::Status Serve(const crisp::stream::Settings& settings) {
  ASSIGN_OR_RETURN(const base::UniqueFd lock, TakeLock(settings.directory()));
  asio::io_context loop(1);
  Activity activity(loop);
  Tokens tokens(settings.max_urls(), absl::Seconds(settings.url_seconds()));
  const Limits limits = LimitsOf(settings);
  Runner runner(loop);
  std::unique_ptr<TlsContext> tls;
  if (settings.tls()) {
    ASSIGN_OR_RETURN(tls, TlsContext::Make(settings));
  }
  const Door door{.loop = loop,
                  .limits = limits,
                  .tls = tls.get(),
                  .source = tokens,
                  .runner = runner,
                  .spdy_command =
                      [&](std::unique_ptr<ByteStream> bytes, int version) {
                        return MakeSpdyCommandClient(loop, std::move(bytes), version, limits);
                      },
                  .spdy_forward =
                      [&](std::unique_ptr<ByteStream> bytes) {
                        return MakeSpdyForwardClient(loop, std::move(bytes), limits);
                      }};
  const auto serve = [&door](asio::ip::tcp::socket socket, Admit admit) {
    return ServeConnection(std::move(socket), door, std::move(admit));
  };
  ASSIGN_OR_RETURN(const std::unique_ptr<Instance> instance,
                   Instance::Start(loop, settings, serve, tokens, activity));
  crisp::stream::Started started;
  started.set_port(instance->port());
  // When nobody hears it any more, another daemon may still find this process and use it.
  if (const absl::Status told = Tell(started); !told.ok()) {
    base::LogWarning("streaming: ", base::ToStd(told.message()));
  }
  Spawn(loop, EndOnSignal(loop, *instance));
  Spawn(loop, RunToEnd(loop, *instance));
  loop.run();
  unlink((settings.directory() + kControlSocket).c_str());
  // Coroutines that still wait are not unwound: the kernel closes what they hold.
  _exit(0);
}

int Main() {
  struct stat info;
  if (fstat(kStartSocket, &info) != 0 || !S_ISSOCK(info.st_mode)) {
    std::fputs("crisp-stream is started by crisp; see --help\n", stderr);
    return 2;
  }
  PrepareProcess();
  crisp::stream::Settings settings;
  absl::Status status =
      ReceiveMessage(base::Context::Detached(kStartTime), kStartSocket, &settings);
  if (!status.ok()) {
    base::LogError("streaming: no settings came: ", base::ToStd(status.message()));
    return 1;
  }
  status = Serve(settings);
  crisp::stream::Started started;
  started.set_error(std::string(status.message()));
  Tell(started).IgnoreError();
  return 1;
}

}  // namespace
}  // namespace streaming

int main(int argc, char** argv) {
  const std::string argument = argc == 2 ? argv[1] : "";
  if (argument == "--help") {
    std::fputs(streaming::kUsage, stdout);
    return 0;
  }
  if (argument == "--version") {
    std::fputs("crisp-stream " CRISP_VERSION "\n", stdout);
    return 0;
  }
  if (argc > 1) {
    std::fputs(streaming::kUsage, stderr);
    return 2;
  }
  return streaming::Main();
}
