#include "daemon/status_command.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <chrono>
#include <map>

#include "base/json.h"
#include "base/strings.h"
#include "proto/api.grpc.pb.h"
#include "proto/cri.h"

namespace crispd {
namespace {

constexpr std::chrono::seconds kPatience(10);

absl::Status FromGrpc(const grpc::Status& status, const std::string& socket) {
  if (status.ok()) return absl::OkStatus();
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  const std::string& message = status.error_message();
  if (code == absl::StatusCode::kUnavailable) {
    // What the system said comes last, after gRPC's own words.
    const size_t colon = message.rfind(": ");
    return absl::Status(
        code, base::StrCat("crisp is not running on ", socket, " (",
                           colon == std::string::npos ? message : message.substr(colon + 2), ")"));
  }
  if (code == absl::StatusCode::kDeadlineExceeded) {
    return absl::Status(code, base::StrCat("crisp does not answer on ", socket, " (",
                                           kPatience.count(), "s passed)"));
  }
  return absl::Status(code, base::StrCat("ask ", socket, ": ", message));
}

// A value of the info map: JSON with indentation where it is JSON, else as it is.
std::string InfoText(const std::string& value) {
  const absl::StatusOr<base::Json> json = base::ParseJson(value);
  if (!json.ok() || !json->is_structured()) return value;
  return json->dump(2, ' ', false, base::Json::error_handler_t::replace);
}

}  // namespace

absl::StatusOr<DaemonStatus> AskStatus(const std::string& socket) {
  const std::unique_ptr<cri::RuntimeService::Stub> stub = cri::RuntimeService::NewStub(
      grpc::CreateChannel(base::StrCat("unix:", socket), grpc::InsecureChannelCredentials()));
  const auto deadline = std::chrono::system_clock::now() + kPatience;
  grpc::ClientContext version_context;
  version_context.set_deadline(deadline);
  cri::VersionResponse version;
  absl::Status asked =
      FromGrpc(stub->Version(&version_context, cri::VersionRequest(), &version), socket);
  if (!asked.ok()) return asked;

  grpc::ClientContext context;
  context.set_deadline(deadline);
  cri::StatusRequest request;
  request.set_verbose(true);
  cri::StatusResponse response;
  asked = FromGrpc(stub->Status(&context, request, &response), socket);
  if (!asked.ok()) return asked;

  DaemonStatus status;
  status.ready = response.status().conditions_size() > 0;
  status.text =
      base::StrCat(version.runtime_name(), " ", version.runtime_version(), " on ", socket, "\n");
  for (const cri::RuntimeCondition& condition : response.status().conditions()) {
    status.ready = status.ready && condition.status();
    status.text += base::StrCat(condition.type(), ": ", condition.status() ? "yes" : "no",
                                condition.reason().empty() ? "" : ", ", condition.reason(),
                                condition.message().empty() ? "" : ": ", condition.message(), "\n");
  }
  const std::map<std::string, std::string> info(response.info().begin(), response.info().end());
  for (const auto& [name, value] : info) {
    status.text += base::StrCat(name, ": ", InfoText(value), "\n");
  }
  return status;
}

}  // namespace crispd
