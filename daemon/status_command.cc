#include "daemon/status_command.h"

#include <chrono>
#include <map>
#include <memory>

#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "daemon/crisp_client.h"
#include "proto/api.grpc.pb.h"
#include "proto/cri.h"

namespace crispd {
namespace {

constexpr std::chrono::seconds kPatience(10);

// A value of the info map: JSON with indentation where it is JSON, else as it is.
std::string InfoText(const std::string& value) {
  const absl::StatusOr<base::Json> json = base::ParseJson(value);
  if (!json.ok() || !json->is_structured()) return value;
  return json->dump(2, ' ', false, base::Json::error_handler_t::replace);
}

}  // namespace

absl::StatusOr<DaemonStatus> AskStatus(const std::string& socket) {
  cri::VersionResponse version;
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, ConnectToDaemon(socket, &version));

  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  cri::StatusRequest request;
  request.set_verbose(true);
  cri::StatusResponse response;
  RETURN_IF_ERROR(base::Annotate(
      FromGrpc(cri::RuntimeService::NewStub(channel)->Status(&context, request, &response)),
      base::StrCat("ask ", socket)));

  DaemonStatus status;
  status.ready = response.status().conditions_size() > 0;
  status.text =
      base::StrCat(version.runtime_name(), " ", version.runtime_version(), " on ", socket, "\n");
  for (const cri::RuntimeCondition& condition : response.status().conditions()) {
    // Others tell of trouble with which the node still runs pods.
    const bool matters = condition.type() == "RuntimeReady" || condition.type() == "NetworkReady";
    status.ready = status.ready && (condition.status() || !matters);
    status.text += base::StrCat(condition.type(), ": ", condition.status() ? "yes" : "no",
                                condition.reason().empty() ? "" : ", ", condition.reason(),
                                condition.message().empty() ? "" : ": ", condition.message(), "\n");
  }
  const std::map<std::string, std::string> info(response.info().begin(), response.info().end());
  for (const auto& [name, value] : info) {
    if (name == "config" || name == "cniconfig") continue;  // `crisp config` says it better.
    status.text += base::StrCat(name, ": ", InfoText(value), "\n");
  }
  return status;
}

}  // namespace crispd
