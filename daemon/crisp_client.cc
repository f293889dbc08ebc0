#include "daemon/crisp_client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <chrono>

#include "base/strings.h"
#include "proto/api.grpc.pb.h"

namespace crispd {
namespace {

constexpr std::chrono::seconds kPatience(10);

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectToDaemon(const std::string& socket,
                                                               cri::VersionResponse* version) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // The daemon's own limit counts.
  std::shared_ptr<grpc::Channel> channel = grpc::CreateCustomChannel(
      base::StrCat("unix:", socket), grpc::InsecureChannelCredentials(), arguments);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  cri::VersionResponse answer;
  const grpc::Status status = cri::RuntimeService::NewStub(channel)->Version(
      &context, cri::VersionRequest(), version == nullptr ? &answer : version);
  const absl::Status asked = FromGrpc(status);
  if (absl::IsUnavailable(asked)) {
    // What the system said comes last, after gRPC's own words.
    const std::string& message = status.error_message();
    const size_t colon = message.rfind(": ");
    return absl::UnavailableError(
        base::StrCat("crisp is not running on ", socket, " (",
                     colon == std::string::npos ? message : message.substr(colon + 2), ")"));
  }
  if (absl::IsDeadlineExceeded(asked)) {
    return absl::DeadlineExceededError(
        base::StrCat("crisp does not answer on ", socket, " (", kPatience.count(), "s passed)"));
  }
  if (!asked.ok()) {
    return absl::Status(asked.code(),
                        base::StrCat("ask ", socket, ": ", base::ToStd(asked.message())));
  }
  return channel;
}

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

Interrupts::Interrupts() : end_(eventfd(0, EFD_CLOEXEC)) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signals_.Reset(signalfd(-1, &set, SFD_CLOEXEC));
  thread_ = std::thread([this] { Run(); });
}

Interrupts::~Interrupts() {
  const uint64_t one = 1;
  (void)!write(end_.get(), &one, sizeof(one));
  thread_.join();
}

void Interrupts::Run() {
  pollfd entries[] = {{.fd = signals_.get(), .events = POLLIN, .revents = 0},
                      {.fd = end_.get(), .events = POLLIN, .revents = 0}};
  while (poll(entries, 2, -1) < 0 || entries[1].revents == 0) {
    signalfd_siginfo info;
    if (entries[0].revents != 0 && read(signals_.get(), &info, sizeof(info)) > 0) {
      const base::MutexLock lock(&mutex_);
      interrupted_ = true;
      if (context_ != nullptr) context_->TryCancel();
    }
  }
}

bool Interrupts::interrupted() {
  const base::MutexLock lock(&mutex_);
  return interrupted_;
}

Interrupts::Scope::Scope(Interrupts* interrupts, grpc::ClientContext* context)
    : interrupts_(interrupts) {
  const base::MutexLock lock(&interrupts_->mutex_);
  interrupts_->context_ = context;
  if (interrupts_->interrupted_) context->TryCancel();
}

Interrupts::Scope::~Scope() {
  const base::MutexLock lock(&interrupts_->mutex_);
  interrupts_->context_ = nullptr;
}

}  // namespace crispd
