#include "imageservice/worker/archive_protocol.h"

#include <algorithm>
#include <iterator>

#include "imageservice/worker/protocol_codec.h"

namespace imageservice::worker {
namespace {

using namespace codec;  // NOLINT: the same codec for other messages.

constexpr size_t kMaxListed = 1000;

// In the order of the enumerations.
constexpr std::string_view kFormats[] = {"oci-archive", "docker-archive", "oci-layout"};
constexpr std::string_view kCompressions[] = {"none", "gzip", "zstd"};

template <typename Enum, size_t N>
absl::StatusOr<Enum> ParseEnum(const Json& json, std::string_view key,
                               const std::string_view (&names)[N]) {
  ASSIGN_OR_RETURN(const std::string name, JsonString(json, key));
  const auto* const found = std::ranges::find(names, std::string_view(name));
  if (found == std::end(names)) {
    return absl::InvalidArgumentError(base::StrCat("unknown ", key));
  }
  return static_cast<Enum>(found - std::begin(names));
}

// --- requests -----------------------------------------------------------------------------------

Json ToJson(const ListRequest& request) {
  return {{"type", "list"},
          {"path", EscapePath(request.path)},
          {"os", request.platform.os},
          {"architecture", request.platform.architecture},
          {"variant", request.platform.variant}};
}

absl::StatusOr<std::string> ParsePath(const Json& json, std::string_view key) {
  ASSIGN_OR_RETURN(const std::string escaped, JsonString(json, key));
  return UnescapePath(escaped);
}

absl::StatusOr<ListRequest> ParseList(const Json& json) {
  ListRequest request;
  ASSIGN_OR_RETURN(request.path, ParsePath(json, "path"));
  ASSIGN_OR_RETURN(request.platform.os, JsonString(json, "os"));
  ASSIGN_OR_RETURN(request.platform.architecture, JsonString(json, "architecture"));
  ASSIGN_OR_RETURN(request.platform.variant, JsonString(json, "variant"));
  return request;
}

Json ToJson(const SaveRequest& request) {
  Json images = Json::array();
  for (const ImageToSave& image : request.images) {
    images.push_back({{"config", EscapePath(image.config)},  // An artifact's can be any bytes.
                      {"manifest", image.manifest},
                      {"names", image.names},
                      {"directories", image.directories}});
  }
  return {{"type", "save"},
          {"path", EscapePath(request.path)},
          {"format", kFormats[static_cast<int>(request.format)]},
          {"compression", kCompressions[static_cast<int>(request.compression)]},
          {"images", std::move(images)}};
}

absl::StatusOr<SaveRequest> ParseSave(const Json& json) {
  SaveRequest request;
  ASSIGN_OR_RETURN(request.path, ParsePath(json, "path"));
  ASSIGN_OR_RETURN(request.format, ParseEnum<ArchiveFormat>(json, "format", kFormats));
  ASSIGN_OR_RETURN(request.compression,
                   ParseEnum<ArchiveCompression>(json, "compression", kCompressions));
  for (const Json& element : base::JsonMember(json, "images")) {
    ImageToSave image;
    ASSIGN_OR_RETURN(image.config, ParsePath(element, "config"));
    ASSIGN_OR_RETURN(image.manifest, JsonString(element, "manifest"));
    ASSIGN_OR_RETURN(image.names, base::JsonStrings(element, "names"));
    ASSIGN_OR_RETURN(image.directories, base::JsonStrings(element, "directories"));
    request.images.push_back(std::move(image));
  }
  return request;
}

// --- replies ------------------------------------------------------------------------------------

Json ToJson(const ArchiveListing& listing) {
  Json images = Json::array();
  for (const ArchivedImage& image : listing.images) {
    images.push_back({{"selector", image.selector},
                      {"names", image.names},
                      {"has_manifest", image.has_manifest}});
  }
  return {{"type", "listing"}, {"images", std::move(images)}};
}

absl::StatusOr<ArchiveListing> ParseListing(const Json& json) {
  ArchiveListing listing;
  for (const Json& element : base::JsonMember(json, "images")) {
    ArchivedImage image;
    ASSIGN_OR_RETURN(image.selector, JsonString(element, "selector"));
    ASSIGN_OR_RETURN(image.names, base::JsonStrings(element, "names"));
    ASSIGN_OR_RETURN(image.has_manifest, JsonBool(element, "has_manifest"));
    listing.images.push_back(std::move(image));
    if (listing.images.size() > kMaxListed) {
      return absl::InvalidArgumentError("too many images");
    }
  }
  return listing;
}

Json ToJson(const SavedArchive& saved) {
  return {{"type", "saved"}, {"image_ids", saved.image_ids}};
}

absl::StatusOr<SavedArchive> ParseSaved(const Json& json) {
  SavedArchive saved;
  ASSIGN_OR_RETURN(saved.image_ids, base::JsonStrings(json, "image_ids"));
  for (const std::string& id : saved.image_ids) {
    if (id.size() != 64 || !std::ranges::all_of(id, [](char c) { return HexValue(c) >= 0; })) {
      return absl::InvalidArgumentError("a malformed image id");
    }
  }
  return saved;
}

}  // namespace

std::string EncodeArchive(const ArchiveRequest& request) {
  return base::DumpJson(std::visit([](const auto& value) { return ToJson(value); }, request));
}

std::string EncodeArchive(const ArchiveReply& reply) {
  return base::DumpJson(std::visit([](const auto& value) { return ToJson(value); }, reply));
}

absl::StatusOr<ArchiveRequest> ParseArchiveRequest(std::string_view json) {
  return ParseMessage<ArchiveRequest>(
      json, {{"list", As<ArchiveRequest, ParseList>}, {"save", As<ArchiveRequest, ParseSave>}});
}

absl::StatusOr<ArchiveReply> ParseArchiveReply(std::string_view json) {
  return ParseMessage<ArchiveReply>(json, {{"progress", As<ArchiveReply, ParseProgress>},
                                           {"warning", As<ArchiveReply, ParseWarning>},
                                           {"listing", As<ArchiveReply, ParseListing>},
                                           {"saved", As<ArchiveReply, ParseSaved>},
                                           {"error", As<ArchiveReply, ParseStatus<Failed>>}});
}

}  // namespace imageservice::worker
