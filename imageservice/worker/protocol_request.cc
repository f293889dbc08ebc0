// The codec of what the daemon says to its worker.
#include <algorithm>
#include <iterator>
#include <variant>

#include "absl/strings/escaping.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/protocol_codec.h"

namespace imageservice::worker {
namespace {

using namespace codec;  // NOLINT: two halves of one codec.

// --- the request ------------------------------------------------------------------------------

// Names and passwords may be any bytes, and JSON is UTF-8: they go as base64.
absl::StatusOr<std::string> JsonBytes(const Json& json, std::string_view key) {
  ASSIGN_OR_RETURN(const std::string escaped, JsonString(json, key));
  std::string bytes;
  if (!absl::Base64Unescape(escaped, &bytes)) {
    return absl::InvalidArgumentError(base::StrCat("\"", key, "\" is not base64"));
  }
  return bytes;
}

Json ToJson(const Endpoint& endpoint) {
  const Credentials& credentials = endpoint.credentials;
  return {{"base_url", endpoint.base_url},
          {"repository", endpoint.repository},
          {"registry_namespace", endpoint.registry_namespace},
          {"headers", endpoint.headers},
          {"can_resolve", endpoint.can_resolve},
          {"can_pull", endpoint.can_pull},
          {"connect_timeout", endpoint.connect_timeout_seconds},
          {"insecure", endpoint.insecure},
          {"ca_pem", endpoint.ca_pem},
          {"client_certificate_pem", endpoint.client_certificate_pem},
          {"client_key_pem", endpoint.client_key_pem},
          {"username", absl::Base64Escape(credentials.username)},
          {"password", absl::Base64Escape(credentials.password)},
          {"identity_token", credentials.identity_token},
          {"registry_token", credentials.registry_token},
          {"bearer_token", endpoint.bearer_token}};
}

absl::StatusOr<Endpoint> ParseEndpoint(const Json& json) {
  Endpoint endpoint;
  ASSIGN_OR_RETURN(endpoint.base_url, JsonString(json, "base_url"));
  ASSIGN_OR_RETURN(endpoint.repository, JsonString(json, "repository"));
  ASSIGN_OR_RETURN(endpoint.registry_namespace, JsonString(json, "registry_namespace"));
  ASSIGN_OR_RETURN(endpoint.headers, base::JsonStrings(json, "headers"));
  ASSIGN_OR_RETURN(endpoint.can_resolve, JsonBool(json, "can_resolve"));
  ASSIGN_OR_RETURN(endpoint.can_pull, JsonBool(json, "can_pull"));
  ASSIGN_OR_RETURN(endpoint.connect_timeout_seconds, JsonIndex(json, "connect_timeout"));
  ASSIGN_OR_RETURN(endpoint.insecure, JsonBool(json, "insecure"));
  ASSIGN_OR_RETURN(endpoint.ca_pem, JsonString(json, "ca_pem"));
  ASSIGN_OR_RETURN(endpoint.client_certificate_pem, JsonString(json, "client_certificate_pem"));
  ASSIGN_OR_RETURN(endpoint.client_key_pem, JsonString(json, "client_key_pem"));
  ASSIGN_OR_RETURN(endpoint.credentials.username, JsonBytes(json, "username"));
  ASSIGN_OR_RETURN(endpoint.credentials.password, JsonBytes(json, "password"));
  ASSIGN_OR_RETURN(endpoint.credentials.identity_token, JsonString(json, "identity_token"));
  ASSIGN_OR_RETURN(endpoint.credentials.registry_token, JsonString(json, "registry_token"));
  ASSIGN_OR_RETURN(endpoint.bearer_token, JsonString(json, "bearer_token"));
  return endpoint;
}

Json ToJson(const PullRequest& request) {
  Json endpoints = Json::array();
  for (const Endpoint& endpoint : request.endpoints) {
    endpoints.push_back(ToJson(endpoint));
  }
  return {{"type", "request"},
          {"reference", request.reference},
          {"tag", request.tag},
          {"digest", request.digest},
          {"endpoints", std::move(endpoints)},
          {"archive", EscapePath(request.archive)},
          {"os", request.platform.os},
          {"architecture", request.platform.architecture},
          {"variant", request.platform.variant},
          {"max_layer_bytes", request.limits.max_layer_bytes},
          {"max_layer_entries", request.limits.max_layer_entries},
          {"max_compression_ratio", request.limits.max_compression_ratio},
          {"max_parallel_layers", request.limits.max_parallel_layers},
          {"max_parallel_ranges", request.limits.max_parallel_ranges},
          {"stall_timeout", request.limits.stall_timeout_seconds},
          {"minimum_rate", request.limits.minimum_bytes_per_second},
          {"staging_directory", request.staging_directory}};
}

absl::StatusOr<PullRequest> ParseRequest(const Json& json) {
  PullRequest request;
  ASSIGN_OR_RETURN(request.reference, JsonString(json, "reference"));
  ASSIGN_OR_RETURN(request.tag, JsonString(json, "tag"));
  ASSIGN_OR_RETURN(request.digest, JsonString(json, "digest"));
  for (const Json& element : base::JsonMember(json, "endpoints")) {
    ASSIGN_OR_RETURN(Endpoint endpoint, ParseEndpoint(element));
    request.endpoints.push_back(std::move(endpoint));
  }
  ASSIGN_OR_RETURN(const std::string archive, JsonString(json, "archive"));
  ASSIGN_OR_RETURN(request.archive, UnescapePath(archive));
  ASSIGN_OR_RETURN(request.platform.os, JsonString(json, "os"));
  ASSIGN_OR_RETURN(request.platform.architecture, JsonString(json, "architecture"));
  ASSIGN_OR_RETURN(request.platform.variant, JsonString(json, "variant"));
  ASSIGN_OR_RETURN(request.limits.max_layer_bytes, JsonSize(json, "max_layer_bytes"));
  ASSIGN_OR_RETURN(request.limits.max_layer_entries, JsonSize(json, "max_layer_entries"));
  ASSIGN_OR_RETURN(request.limits.max_compression_ratio, JsonSize(json, "max_compression_ratio"));
  ASSIGN_OR_RETURN(request.limits.max_parallel_layers, JsonIndex(json, "max_parallel_layers"));
  ASSIGN_OR_RETURN(request.limits.max_parallel_ranges, JsonIndex(json, "max_parallel_ranges"));
  ASSIGN_OR_RETURN(request.limits.stall_timeout_seconds, JsonIndex(json, "stall_timeout"));
  ASSIGN_OR_RETURN(request.limits.minimum_bytes_per_second, JsonSize(json, "minimum_rate"));
  ASSIGN_OR_RETURN(request.staging_directory, JsonString(json, "staging_directory"));
  return request;
}

// --- answers ------------------------------------------------------------------------------------

// In the order of LayerDecision.
constexpr std::string_view kDecisions[] = {"have", "wait", "fetch"};

Json ToJson(const LayerAnswer& answer) {
  return {{"type", "answer"},
          {"index", answer.index},
          {"decision", kDecisions[static_cast<int>(answer.decision)]}};
}

absl::StatusOr<LayerAnswer> ParseAnswer(const Json& json) {
  LayerAnswer answer;
  ASSIGN_OR_RETURN(answer.index, JsonIndex(json, "index"));
  ASSIGN_OR_RETURN(const std::string decision, JsonString(json, "decision"));
  const auto* const found = std::ranges::find(kDecisions, std::string_view(decision));
  if (found == std::end(kDecisions)) {
    return absl::InvalidArgumentError("unknown decision");
  }
  answer.decision = static_cast<LayerDecision>(found - std::begin(kDecisions));
  return answer;
}

Json ToJson(const Resume&) { return {{"type", "resume"}}; }

absl::StatusOr<Resume> ParseResume(const Json&) { return Resume(); }

}  // namespace

std::string Encode(const DaemonMessage& message) {
  return base::DumpJson(std::visit([](const auto& value) { return ToJson(value); }, message));
}

absl::StatusOr<DaemonMessage> ParseDaemonMessage(std::string_view json) {
  return ParseMessage<DaemonMessage>(json, {{"request", As<DaemonMessage, ParseRequest>},
                                            {"answer", As<DaemonMessage, ParseAnswer>},
                                            {"resume", As<DaemonMessage, ParseResume>}});
}

}  // namespace imageservice::worker
