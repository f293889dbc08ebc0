#include "daemon/server.h"

#include <grpc/support/log.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>
#include <future>
#include <thread>

#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"

namespace crispd {
namespace {

// Removes a socket that a dead daemon left at `path`.
absl::Status RemoveStaleSocket(const std::string& path) {
  struct stat status;
  if (lstat(path.c_str(), &status) != 0) {
    return errno == ENOENT ? absl::OkStatus() : base::ErrnoStatus(errno, path);
  }
  if (!S_ISSOCK(status.st_mode)) {
    return absl::FailedPreconditionError(base::StrCat(path, ": exists and is no socket"));
  }
  const base::UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    return absl::AlreadyExistsError(base::StrCat(path, ": somebody serves on this socket"));
  }
  if (errno != ECONNREFUSED) {
    return base::ErrnoStatus(errno, base::StrCat("probe ", path));
  }
  return base::RemoveFile(path);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options,
                                                      const std::vector<grpc::Service*>& services) {
  const std::string& path = options.socket;
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    return absl::InvalidArgumentError(base::StrCat(path, ": too long for a socket"));
  }
  RETURN_IF_ERROR(base::MakeDirectories(path.substr(0, path.rfind('/'))));
  RETURN_IF_ERROR(RemoveStaleSocket(path));

  grpc::ServerBuilder builder;
  builder.AddListeningPort(base::StrCat("unix:", path), grpc::InsecureServerCredentials());
  builder.SetMaxSendMessageSize(options.max_send_bytes);
  builder.SetMaxReceiveMessageSize(options.max_receive_bytes);
  for (grpc::Service* service : services) {
    builder.RegisterService(service);
  }
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    return absl::UnknownError(base::StrCat("listen on ", path, ": gRPC refused"));
  }
  // Until here the umask keeps others from writing, that is from connecting.
  if (chmod(path.c_str(), 0660) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("chmod ", path));
  }
  return std::unique_ptr<Server>(new Server(std::move(server)));
}

Server::~Server() {
  if (!drained_) {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }
}

bool Server::Drain(absl::Duration limit) {
  drained_ = true;
  const absl::Time deadline = absl::Now() + limit;
  // Shutdown cancels at its deadline and then waits for the handlers, however long they take.
  std::promise<void> ended;
  std::future<void> all_ended = ended.get_future();
  std::thread shutdown([server = server_.get(), deadline, ended = std::move(ended)]() mutable {
    server->Shutdown(absl::ToChronoTime(deadline));
    server->Wait();
    ended.set_value();
  });
  const auto patience = absl::ToChronoMilliseconds(limit + absl::Seconds(1));
  const bool ok = all_ended.wait_for(patience) == std::future_status::ready;
  if (ok) {
    shutdown.join();
  } else {
    shutdown.detach();
    server_.release();  // Still in use by the stuck handler.
  }
  return ok;
}

void RouteGrpcLog() {
  gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
  gpr_set_log_function(
      [](gpr_log_func_args* line) { base::LogError("gRPC: ", std::string_view(line->message)); });
}

}  // namespace crispd
