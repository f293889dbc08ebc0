#include "imageservice/worker/artifact.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "base/sha.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/protocol.h"

namespace imageservice::worker {
namespace {

using base::Json;
using base::JsonMember;

constexpr std::string_view kImageConfigTypes[] = {"application/vnd.oci.image.config.v1+json",
                                                  "application/vnd.docker.container.image.v1+json"};
constexpr std::string_view kImageLayerTypes[] = {
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"};
constexpr char kEmptyType[] = "application/vnd.oci.empty.v1+json";
// Of the two bytes "{}".
constexpr char kEmptyDigest[] =
    "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
constexpr const char* kNameAnnotations[] = {"org.opencontainers.image.title",
                                            "org.cncf.model.filepath"};  // The CNCF's ModelPack.

// The components of `path`.
std::vector<std::string_view> Split(std::string_view path) {
  std::vector<std::string_view> components;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    components.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return components;
}

// Foreign text for a message.
std::string Quoted(std::string_view name) {
  return base::StrCat("\"", absl::CHexEscape(std::string(name.substr(0, 200))), "\"");
}

absl::StatusOr<std::string> NameOf(const Json& descriptor, const std::string& digest) {
  const Json& annotations = JsonMember(descriptor, "annotations");
  for (const char* key : kNameAnnotations) {
    std::string name;
    if (!annotations.is_null()) {
      ASSIGN_OR_RETURN(name, base::JsonString(annotations, key));
    }
    if (!name.empty()) {
      absl::StatusOr<std::string> clean = CleanArtifactName(name);
      if (!clean.ok()) {
        return base::Annotate(clean.status(), base::StrCat("its name ", Quoted(name)));
      }
      return clean;
    }
  }
  std::string name = digest;
  std::ranges::replace(name, ':', '-');
  return CleanArtifactName(name);
}

// Keeps the names of one artifact apart.
class Tree {
 public:
  absl::Status Add(const std::string& name) {
    bool is_free = !folders_.contains(name) && files_.insert(name).second;
    for (size_t slash = name.find('/'); slash != std::string::npos;
         slash = name.find('/', slash + 1)) {
      const std::string folder = name.substr(0, slash);
      is_free = is_free && !files_.contains(folder);
      folders_.insert(folder);
    }
    return is_free ? absl::OkStatus()
                   : absl::InvalidArgumentError(
                         base::StrCat("its name ", Quoted(name),
                                      " is that of another blob, or one is within the other"));
  }

 private:
  std::set<std::string> files_;
  std::set<std::string> folders_;
};

}  // namespace

bool IsImageLayerType(std::string_view media_type) {
  return std::ranges::find(kImageLayerTypes, media_type) != std::end(kImageLayerTypes);
}

absl::StatusOr<std::string> ArtifactTypeOf(const Json& manifest) {
  ASSIGN_OR_RETURN(std::string type, base::JsonString(manifest, "artifactType"));
  ASSIGN_OR_RETURN(const std::string config,
                   base::JsonString(JsonMember(manifest, "config"), "mediaType"));
  if (std::ranges::find(kImageConfigTypes, config) != std::end(kImageConfigTypes)) {
    bool is_image = true;
    for (const Json& layer : JsonMember(manifest, "layers")) {
      ASSIGN_OR_RETURN(const std::string layer_type, base::JsonString(layer, "mediaType"));
      is_image = is_image && IsImageLayerType(layer_type);
    }
    if (is_image) {
      return "";
    }
  } else if (type.empty()) {
    type = config;
  }
  const bool is_printable =
      std::ranges::all_of(type, [](char c) { return c > 0x20 && c < 0x7f; });  // It is shown.
  if (type.size() > kMaxArtifactTypeBytes || !is_printable) {
    return absl::InvalidArgumentError(base::StrCat(
        "the artifact's type is longer than ", kMaxArtifactTypeBytes, " bytes or no media type"));
  }
  return type;
}

absl::StatusOr<std::vector<ArtifactFile>> ParseArtifactFiles(const Json& manifest) {
  const Json& layers = JsonMember(manifest, "layers");
  if (!layers.is_array()) {
    return absl::InvalidArgumentError("\"layers\" is no list");
  }
  if (layers.size() > kMaxLayers) {
    return absl::InvalidArgumentError(
        base::StrCat("the artifact has ", layers.size(), " blobs, more than ", kMaxLayers));
  }
  std::vector<ArtifactFile> files;
  Tree tree;
  for (const Json& descriptor : layers) {
    ArtifactFile file;
    ASSIGN_OR_RETURN(file.digest, base::JsonString(descriptor, "digest"));
    ASSIGN_OR_RETURN(const std::string type, base::JsonString(descriptor, "mediaType"));
    if (type != kEmptyType || file.digest != kEmptyDigest) {
      absl::StatusOr<std::string> name = NameOf(descriptor, file.digest);
      absl::Status status = name.ok() ? tree.Add(*name) : name.status();
      if (!status.ok()) {
        return base::Annotate(status, base::StrCat("blob ", file.digest.substr(0, 200)));
      }
      file.name = *std::move(name);
    }
    files.push_back(std::move(file));
  }
  return files;
}

absl::StatusOr<std::string> CleanArtifactName(std::string_view name) {
  if (name.empty() || name.starts_with('/') || name.find('\0') != std::string_view::npos) {
    return absl::InvalidArgumentError("empty, absolute or with a NUL");
  }
  std::string clean;
  size_t depth = 0;
  for (const std::string_view component : Split(name)) {
    if (component.empty() || component == ".") {
      continue;
    }
    if (component == "..") {
      return absl::InvalidArgumentError("\"..\" in the path");
    }
    if (component.size() > kMaxFileNameBytes || ++depth > kMaxArtifactNameDepth) {
      return absl::InvalidArgumentError(base::StrCat("a part longer than ", kMaxFileNameBytes,
                                                     " bytes, or more than ", kMaxArtifactNameDepth,
                                                     " parts"));
    }
    clean += clean.empty() ? "" : "/";
    clean += component;
  }
  if (clean.empty() || clean.size() > kMaxArtifactNameBytes) {
    return absl::InvalidArgumentError(
        base::StrCat("no path, or longer than ", kMaxArtifactNameBytes, " bytes"));
  }
  return clean;
}

std::string ArtifactDiffId(const ArtifactFile& file) {
  return base::Sha256Hex(
      base::StrCat("crisp artifact file 1 ", file.digest, " ", base::Sha256Hex(file.name)));
}

}  // namespace imageservice::worker
