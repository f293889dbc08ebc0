#include "imageservice/worker/protocol.h"

#include <algorithm>

#include "imageservice/worker/protocol_codec.h"

namespace imageservice::worker {
namespace {

using namespace codec;  // NOLINT: two halves of one codec.

// A path as DeferredOperation promises it.
absl::StatusOr<std::string> CleanPath(const Json& json, std::string_view key) {
  ASSIGN_OR_RETURN(const std::string escaped, JsonString(json, key));
  ASSIGN_OR_RETURN(std::string path, UnescapePath(escaped));
  if (path == ".") {
    return path;
  }
  if (path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("a path with a NUL");
  }
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view component = std::string_view(path).substr(begin, end - begin);
    if (component.empty() || component == "." || component == "..") {
      return absl::InvalidArgumentError(base::StrCat("\"", escaped, "\" is not a clean path"));
    }
    begin = end + 1;
  }
  return path;
}

// --- worker → daemon ----------------------------------------------------------------------------

Json ToJson(const Token& token) {
  return {{"type", "token"},
          {"endpoint", token.endpoint},
          {"token", token.token},
          {"expires_at", token.expires_at}};
}

absl::StatusOr<Token> ParseToken(const Json& json) {
  Token token;
  ASSIGN_OR_RETURN(token.endpoint, JsonIndex(json, "endpoint"));
  ASSIGN_OR_RETURN(token.token, JsonString(json, "token"));
  if (token.token.size() > kMaxTokenBytes) {
    return absl::InvalidArgumentError("a token too long");
  }
  ASSIGN_OR_RETURN(token.expires_at, JsonInt(json, "expires_at"));
  return token;
}

Json ToJson(const Resolved& resolved) {
  return {{"type", "resolved"},
          {"manifest_digest", resolved.manifest_digest},
          {"index_digest", resolved.index_digest},
          {"indexes", resolved.indexes},
          {"media_type", resolved.media_type},
          {"manifest", resolved.manifest},
          {"config", EscapePath(resolved.config)},  // An artifact's can be any bytes.
          {"image_id", resolved.image_id},
          {"endpoint", resolved.endpoint}};
}

absl::StatusOr<Resolved> ParseResolved(const Json& json) {
  Resolved resolved;
  ASSIGN_OR_RETURN(resolved.manifest_digest, JsonString(json, "manifest_digest"));
  ASSIGN_OR_RETURN(resolved.index_digest, JsonString(json, "index_digest"));
  ASSIGN_OR_RETURN(resolved.indexes, base::JsonStrings(json, "indexes"));
  ASSIGN_OR_RETURN(resolved.media_type, JsonString(json, "media_type"));
  ASSIGN_OR_RETURN(resolved.manifest, JsonString(json, "manifest"));
  ASSIGN_OR_RETURN(const std::string config, JsonString(json, "config"));
  ASSIGN_OR_RETURN(resolved.config, UnescapePath(config));
  ASSIGN_OR_RETURN(resolved.image_id, JsonHex(json, "image_id"));
  ASSIGN_OR_RETURN(resolved.endpoint, JsonIndex(json, "endpoint"));
  return resolved;
}

Json ToJson(const LayerQuestion& question) {
  return {
      {"type", "layer"},           {"index", question.index},     {"chain_id", question.chain_id},
      {"parent", question.parent}, {"diff_id", question.diff_id}, {"digest", question.digest},
      {"size", question.size}};
}

absl::StatusOr<LayerQuestion> ParseQuestion(const Json& json) {
  LayerQuestion question;
  ASSIGN_OR_RETURN(question.index, JsonIndex(json, "index"));
  ASSIGN_OR_RETURN(question.chain_id, JsonHex(json, "chain_id"));
  ASSIGN_OR_RETURN(question.parent, JsonHex(json, "parent", Presence::kOptional));
  ASSIGN_OR_RETURN(question.diff_id, JsonHex(json, "diff_id"));
  ASSIGN_OR_RETURN(question.digest, JsonString(json, "digest"));
  ASSIGN_OR_RETURN(question.size, JsonSize(json, "size"));
  return question;
}

// A device as a list of numbers.
Json ToJson(const DeferredOperation::Node& node) {
  return Json::array({node.is_block ? 1 : 0, node.major, node.minor, node.mode, node.uid, node.gid,
                      node.mtime.tv_sec, node.mtime.tv_nsec});
}

absl::StatusOr<DeferredOperation::Node> ParseNode(const Json& json) {
  // What each of the first six may be at most; the time may be anything.
  constexpr int64_t kLimits[] = {1, 0xfffff, 0xfffff, 07777, 0xfffffffe, 0xfffffffe};
  bool is_good = json.is_array() && json.size() == 8;
  std::vector<int64_t> numbers;
  for (const Json& element : json) {
    is_good = is_good && element.is_number_integer();
    numbers.push_back(is_good ? element.get<int64_t>() : 0);
  }
  for (size_t i = 0; is_good && i < std::size(kLimits); ++i) {
    is_good = numbers[i] >= 0 && numbers[i] <= kLimits[i];
  }
  if (!is_good || numbers[7] < 0 || numbers[7] >= 1'000'000'000 ||
      (numbers[0] == 0 && numbers[1] == 0 && numbers[2] == 0)) {
    return absl::InvalidArgumentError("a deferred device is malformed");
  }
  return DeferredOperation::Node{.is_block = numbers[0] == 1,
                                 .major = static_cast<uint32_t>(numbers[1]),
                                 .minor = static_cast<uint32_t>(numbers[2]),
                                 .mode = static_cast<uint32_t>(numbers[3]),
                                 .uid = static_cast<uint32_t>(numbers[4]),
                                 .gid = static_cast<uint32_t>(numbers[5]),
                                 .mtime = {numbers[6], numbers[7]}};
}

// A deferred operation is a short list: [kind, path], ["link", path, target] or
// ["node", path, device].
Json ToJson(const UnpackedLayer& layer) {
  Json deferred = Json::array();
  for (const DeferredOperation& operation : layer.deferred) {
    const std::string path = EscapePath(operation.path);
    switch (operation.kind) {
      case DeferredOperation::Kind::kOpaque:
        deferred.push_back({"opaque", path});
        break;
      case DeferredOperation::Kind::kCopyMetadata:
        deferred.push_back({"copy", path});
        break;
      case DeferredOperation::Kind::kHardLink:
        deferred.push_back({"link", path, EscapePath(operation.target)});
        break;
      case DeferredOperation::Kind::kNode:
        deferred.push_back({"node", path, ToJson(operation.node)});
        break;
    }
  }
  return {{"type", "unpacked"},
          {"bytes", layer.bytes},
          {"inodes", layer.inodes},
          {"deferred", std::move(deferred)}};
}

absl::StatusOr<DeferredOperation> ParseOperation(const Json& json) {
  if (!json.is_array() || json.size() < 2 || json.size() > 3 || !json[0].is_string()) {
    return absl::InvalidArgumentError("a deferred operation is malformed");
  }
  const std::string kind = json[0].get<std::string>();
  const Json members = {{"path", json[1]}, {"target", json.size() == 3 ? json[2] : Json()}};
  DeferredOperation operation;
  ASSIGN_OR_RETURN(operation.path, CleanPath(members, "path"));
  if (kind == "opaque") {
    operation.kind = DeferredOperation::Kind::kOpaque;
  } else if (kind == "copy") {
    operation.kind = DeferredOperation::Kind::kCopyMetadata;
  } else if (kind == "link") {
    operation.kind = DeferredOperation::Kind::kHardLink;
    ASSIGN_OR_RETURN(operation.target, CleanPath(members, "target"));
  } else if (kind == "node") {
    operation.kind = DeferredOperation::Kind::kNode;
    ASSIGN_OR_RETURN(operation.node, ParseNode(members["target"]));
  } else {
    return absl::InvalidArgumentError("unknown deferred operation");
  }
  return operation;
}

absl::StatusOr<UnpackedLayer> ParseUnpacked(const Json& json) {
  UnpackedLayer layer;
  ASSIGN_OR_RETURN(layer.bytes, JsonSize(json, "bytes"));
  ASSIGN_OR_RETURN(layer.inodes, JsonSize(json, "inodes"));
  // Sums of many layers have to make sense too.
  if (layer.bytes >> 48 != 0 || layer.inodes >> 40 != 0) {
    return absl::InvalidArgumentError("a layer larger than can be");
  }
  DeferredTotal total;
  for (const Json& element : base::JsonMember(json, "deferred")) {
    ASSIGN_OR_RETURN(DeferredOperation operation, ParseOperation(element));
    RETURN_IF_ERROR(total.Add(operation));
    layer.deferred.push_back(std::move(operation));
  }
  return layer;
}

Json ToJson(const LayerDone& done) {
  return {{"type", "layer_done"}, {"index", done.index}, {"directory", done.directory}};
}

absl::StatusOr<LayerDone> ParseLayerDone(const Json& json) {
  LayerDone done;
  ASSIGN_OR_RETURN(done.index, JsonIndex(json, "index"));
  ASSIGN_OR_RETURN(done.directory, JsonString(json, "directory"));
  if (!IsLayerDirectory(done.directory)) {
    return absl::InvalidArgumentError("the name of a layer's folder is no number");
  }
  return done;
}

Json StagesToJson(const Stages& stages) {
  return {{"fetch", stages.fetch},
          {"digest", stages.digest},
          {"inflate", stages.inflate},
          {"unpack", stages.unpack}};
}

absl::StatusOr<Stages> ParseStages(const Json& json) {
  Stages stages;
  ASSIGN_OR_RETURN(stages.fetch, JsonSize(json, "fetch"));
  ASSIGN_OR_RETURN(stages.digest, JsonSize(json, "digest"));
  ASSIGN_OR_RETURN(stages.inflate, JsonSize(json, "inflate"));
  ASSIGN_OR_RETURN(stages.unpack, JsonSize(json, "unpack"));
  return stages;
}

Json ToJson(const Verified& verified) {
  return {{"type", "verified"},
          {"diff_id", verified.diff_id},
          {"stages", StagesToJson(verified.stages)}};
}

absl::StatusOr<Verified> ParseVerified(const Json& json) {
  Verified verified;
  ASSIGN_OR_RETURN(verified.diff_id, JsonHex(json, "diff_id"));
  ASSIGN_OR_RETURN(verified.stages, ParseStages(base::JsonMember(json, "stages")));
  return verified;
}

Json ToJson(const Done& done) { return {{"type", "done"}, {"stages", StagesToJson(done.stages)}}; }

absl::StatusOr<Done> ParseDone(const Json& json) {
  Done done;
  ASSIGN_OR_RETURN(done.stages, ParseStages(base::JsonMember(json, "stages")));
  return done;
}

Json ToJson(const Stalled& stalled) { return StatusToJson("stalled", stalled.status); }

}  // namespace

absl::Status DeferredTotal::Add(const DeferredOperation& operation) {
  ++operations_;
  bytes_ += operation.path.size() + operation.target.size();
  if (operations_ > kMaxDeferredOperations) {
    return absl::ResourceExhaustedError(base::StrCat(
        "more than ", kMaxDeferredOperations,
        " links to lower layers, implied or opaque directories and devices in one layer"));
  }
  if (bytes_ > kMaxDeferredBytes) {
    return absl::ResourceExhaustedError(base::StrCat(
        "more than ", kMaxDeferredBytes,
        " bytes of paths of links to lower layers, implied or opaque directories and devices in "
        "one layer"));
  }
  return absl::OkStatus();
}

std::string Encode(const WorkerMessage& message) {
  return base::DumpJson(std::visit([](const auto& value) { return ToJson(value); }, message));
}

std::string Encode(const LayerMessage& message) {
  return base::DumpJson(std::visit([](const auto& value) { return ToJson(value); }, message));
}

bool IsLayerDirectory(std::string_view name) {
  return !name.empty() && name.size() <= 10 &&
         std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
}

absl::StatusOr<WorkerMessage> ParseWorkerMessage(std::string_view json) {
  return ParseMessage<WorkerMessage>(json, {{"progress", As<WorkerMessage, ParseProgress>},
                                            {"token", As<WorkerMessage, ParseToken>},
                                            {"warning", As<WorkerMessage, ParseWarning>},
                                            {"resolved", As<WorkerMessage, ParseResolved>},
                                            {"layer", As<WorkerMessage, ParseQuestion>},
                                            {"layer_done", As<WorkerMessage, ParseLayerDone>},
                                            {"stalled", As<WorkerMessage, ParseStatus<Stalled>>},
                                            {"done", As<WorkerMessage, ParseDone>},
                                            {"error", As<WorkerMessage, ParseStatus<Failed>>}});
}

absl::StatusOr<LayerMessage> ParseLayerMessage(std::string_view json) {
  return ParseMessage<LayerMessage>(json, {{"unpacked", As<LayerMessage, ParseUnpacked>},
                                           {"verified", As<LayerMessage, ParseVerified>},
                                           {"error", As<LayerMessage, ParseStatus<Failed>>}});
}

}  // namespace imageservice::worker
