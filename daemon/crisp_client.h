// The command line's end of the socket: calls to a running crisp, with errors a person can act on.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "proto/cri.h"

namespace crispd {

// A connection to the daemon on `socket`, asked for its version first: UNAVAILABLE, with what to
// do, when none runs there; DEADLINE_EXCEEDED when it does not answer. The answer goes to `version`
// unless that is null.
absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectToDaemon(
    const std::string& socket, cri::VersionResponse* version = nullptr);

// The same code and message.
absl::Status FromGrpc(const grpc::Status& status);

// SIGINT and SIGTERM during calls: the call under way is cancelled instead of the process killed,
// so that it can clean up. One object at a time, made before the process has other threads.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // While the result lives, a signal cancels `context`; at once if there was one before.
  class Scope {
   public:
    Scope(Interrupts* interrupts, grpc::ClientContext* context);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Interrupts* const interrupts_;
  };

  // Whether there was one.
  bool interrupted();

 private:
  void Run();

  base::UniqueFd signals_;
  base::UniqueFd end_;
  base::Mutex mutex_;
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::thread thread_;
};

}  // namespace crispd
