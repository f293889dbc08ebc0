// Names of images as users write them, and the one normalised form everything else works with.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace imageservice {

// A normalised reference: registry, repository, and a tag or a digest or both. An object in hand is
// valid; its parts contain nothing that could leave a URL path or a file name. Immutable value.
class Reference {
 public:
  // Parses "[domain/]path[:tag][@digest]" (OCI distribution-spec, "pulling manifests"; the grammar
  // is that of the docker reference format). A name without a domain is one of docker.io, without
  // tag and digest the tag is "latest". INVALID_ARGUMENT for anything else, and for 64 hexadecimal
  // digits, which are an image id.
  static absl::StatusOr<Reference> Parse(std::string_view text);

  // "docker.io", "localhost:5000", "[::1]:5000". Lower case letters are kept as written.
  const std::string& domain() const { return domain_; }
  // "library/busybox".
  const std::string& path() const { return path_; }
  // Empty when there is only a digest.
  const std::string& tag() const { return tag_; }
  // "sha256:…"; empty when there is none. With both, the digest decides what is pulled.
  const std::string& digest() const { return digest_; }

  // "docker.io/library/busybox".
  std::string repository() const { return domain_ + "/" + path_; }
  // What identifies the image within its repository: the digest if there is one, else the tag.
  const std::string& selector() const { return digest_.empty() ? tag_ : digest_; }
  // "docker.io/library/busybox:latest", or "docker.io/library/busybox@sha256:…" with a digest.
  std::string str() const;

  friend bool operator==(const Reference&, const Reference&) = default;

 private:
  std::string domain_;
  std::string path_;
  std::string tag_;
  std::string digest_;
};

// Whether `text` names no registry ("busybox", "user/app:1"), so that search registries apply.
bool IsShortName(std::string_view text);

// Whether `text` is a lower-case digest of a supported algorithm: sha256 or sha512.
bool IsDigest(std::string_view text);

// The id in "<64 hex>" or "sha256:<64 hex>"; empty when `text` is neither.
std::string ImageIdOf(std::string_view text);

// Whether `text` could be the beginning of an image id: hexadecimal, at most 64 digits, not empty.
bool IsIdPrefix(std::string_view text);

// Whether `domain` is a well-formed registry host: name, IPv4 or "[IPv6]", with an optional port.
bool IsRegistryHost(std::string_view domain);

}  // namespace imageservice
