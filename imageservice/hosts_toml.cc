#include "imageservice/hosts_toml.h"

#include <algorithm>

#include "absl/time/time.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/toml.h"
#include "imageservice/reference.h"

namespace imageservice {
namespace {

using Kind = base::TomlValue::Kind;

constexpr size_t kMaxFile = 1 << 20;
constexpr absl::Duration kLongestDial = absl::Hours(1);

// The parts of a server's URL.
struct ServerUrl {
  std::string scheme;
  std::string authority;
  std::string path;  // Empty, or "/…" without a slash at its end.
};

// A path of plain segments; false for anything a URL gives another meaning.
bool CleanPath(std::string_view text, std::string* path) {
  while (!text.empty()) {
    text.remove_prefix(1);  // The slash.
    const std::string_view segment = text.substr(0, text.find('/'));
    const bool plain = std::all_of(segment.begin(), segment.end(), [](char c) {
      return c > ' ' && c < 0x7f &&
             std::string_view("?#\\\"<>^`{|}").find(c) == std::string_view::npos;
    });
    if (!plain || segment == "..") {
      return false;
    }
    if (!segment.empty() && segment != ".") {
      *path += base::StrCat("/", segment);
    }
    text.remove_prefix(segment.size());
  }
  return true;
}

// "https://host[:port][/path]"; without a scheme it is https. nullopt for anything else, a user in
// the authority included.
std::optional<ServerUrl> ParseServerUrl(std::string_view text) {
  ServerUrl url;
  url.scheme = "https";
  if (const size_t end = text.find("://"); end != std::string_view::npos) {
    url.scheme = text.substr(0, end);
    text.remove_prefix(end + 3);
  }
  const size_t slash = text.find('/');
  url.authority = text.substr(0, slash);
  if ((url.scheme != "https" && url.scheme != "http") || !IsRegistryHost(url.authority) ||
      (slash != std::string_view::npos && !CleanPath(text.substr(slash), &url.path))) {
    return std::nullopt;
  }
  return url;
}

bool IsHeaderName(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

bool IsHeaderValue(std::string_view value) {
  return std::none_of(value.begin(), value.end(), [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
  });
}

// Reads one file, with file and line on every error.
class HostsFile {
 public:
  explicit HostsFile(const std::string& name) : name_(name) {}

  absl::StatusOr<RegistryHosts> Read(std::string_view text);

 private:
  absl::StatusOr<RegistryHost> ReadHost(base::TomlReader* reader, std::string_view url_key,
                                        const std::string& url);
  absl::Status SetUrl(const base::TomlReader& reader, std::string_view key, const std::string& text,
                      bool override_path, RegistryHost* host);
  absl::Status ReadCapabilities(base::TomlReader* reader, RegistryHost* host);
  absl::Status ReadClient(base::TomlReader* reader, RegistryHost* host);
  absl::Status ReadHeaders(base::TomlReader* reader, RegistryHost* host);
  absl::Status ReadDialTimeout(base::TomlReader* reader, RegistryHost* host);
  void Warn(const base::TomlReader& reader);

  const std::string& name_;
  RegistryHosts hosts_;
};

absl::StatusOr<RegistryHosts> HostsFile::Read(std::string_view text) {
  ASSIGN_OR_RETURN(const base::TomlValue root, base::ParseToml(text, name_));
  base::TomlReader reader(root, name_);
  std::string server;
  RETURN_IF_ERROR(reader.String("server", &server));
  ASSIGN_OR_RETURN(hosts_.server, ReadHost(&reader, "server", server));
  ASSIGN_OR_RETURN(const base::TomlValue* mirrors, reader.Table("host"));
  if (mirrors != nullptr) {
    base::TomlReader tables(*mirrors, name_);
    for (const auto& [url, value] : mirrors->members) {
      ASSIGN_OR_RETURN(const base::TomlValue* table, tables.Table(url));
      base::TomlReader mirror(*table, name_);
      ASSIGN_OR_RETURN(RegistryHost host, ReadHost(&mirror, "", url));
      Warn(mirror);
      hosts_.mirrors.push_back(std::move(host));
    }
  }
  Warn(reader);
  return std::move(hosts_);
}

void HostsFile::Warn(const base::TomlReader& reader) {
  const std::vector<std::string> unknown = reader.UnknownKeys();
  hosts_.warnings.insert(hosts_.warnings.end(), unknown.begin(), unknown.end());
}

absl::StatusOr<RegistryHost> HostsFile::ReadHost(base::TomlReader* reader, std::string_view url_key,
                                                 const std::string& url) {
  RegistryHost host;
  bool override_path = false;
  RETURN_IF_ERROR(reader->Boolean("override_path", &override_path));
  RETURN_IF_ERROR(SetUrl(*reader, url_key, url, override_path, &host));
  RETURN_IF_ERROR(ReadCapabilities(reader, &host));
  RETURN_IF_ERROR(reader->StringOrStrings("ca", &host.authority_files));
  RETURN_IF_ERROR(ReadClient(reader, &host));
  RETURN_IF_ERROR(reader->Boolean("skip_verify", &host.skip_verify));
  RETURN_IF_ERROR(reader->Boolean("pass_credentials", &host.pass_credentials));
  RETURN_IF_ERROR(ReadHeaders(reader, &host));
  RETURN_IF_ERROR(ReadDialTimeout(reader, &host));
  return host;
}

absl::Status HostsFile::SetUrl(const base::TomlReader& reader, std::string_view key,
                               const std::string& text, bool override_path, RegistryHost* host) {
  if (text.empty() && key == "server") {
    return absl::OkStatus();
  }
  const std::optional<ServerUrl> url = ParseServerUrl(text);
  if (!url) {
    // A text with "@" may hold a password.
    const bool quotable = text.find('@') == std::string::npos;
    return reader.Invalid(key, base::StrCat(quotable ? base::StrCat("\"", text, "\"") : "a server",
                                            " is no URL like \"https://host[:port][/path]\""));
  }
  const bool complete = override_path || url->path.ends_with("/v2");
  host->authority = url->authority;
  host->url = base::StrCat(url->scheme, "://", url->authority, url->path, complete ? "" : "/v2");
  return absl::OkStatus();
}

absl::Status HostsFile::ReadCapabilities(base::TomlReader* reader, RegistryHost* host) {
  std::vector<std::string> capabilities;
  RETURN_IF_ERROR(reader->Strings("capabilities", &capabilities));
  for (const std::string& capability : capabilities) {
    if (capability != "pull" && capability != "resolve" && capability != "push" &&
        capability != "referrers") {
      return reader->Invalid("capabilities",
                             base::StrCat("capability \"", capability,
                                          "\" is unknown: want pull, resolve, push or referrers"));
    }
  }
  const auto has = [&](std::string_view name) {
    return capabilities.empty() ||
           std::find(capabilities.begin(), capabilities.end(), name) != capabilities.end();
  };
  host->can_pull = has("pull");
  host->can_resolve = has("resolve");
  return absl::OkStatus();
}

absl::Status HostsFile::ReadClient(base::TomlReader* reader, RegistryHost* host) {
  const base::TomlValue* client = reader->Any("client");
  if (client == nullptr) {
    return absl::OkStatus();
  }
  const absl::Status wrong = reader->Invalid(
      "client", "client is neither a path nor a list of paths nor a list of [certificate, key]");
  if (client->kind == Kind::kString) {
    host->client_files = {{client->text, ""}};
    return absl::OkStatus();
  }
  if (client->kind != Kind::kArray) {
    return wrong;
  }
  for (const base::TomlValue& element : client->elements) {
    const std::vector<base::TomlValue>& pair = element.elements;
    const bool paths = std::all_of(pair.begin(), pair.end(), [](const base::TomlValue& path) {
      return path.kind == Kind::kString;
    });
    if (element.kind == Kind::kString) {
      host->client_files.emplace_back(element.text, "");
    } else if (element.kind == Kind::kArray && paths && (pair.size() == 1 || pair.size() == 2)) {
      host->client_files.emplace_back(pair.front().text, pair.size() == 2 ? pair.back().text : "");
    } else {
      return wrong;
    }
  }
  if (host->client_files.size() > 1) {
    hosts_.warnings.emplace_back(
        reader->Invalid("client", "of several client certificates the first is used").message());
  }
  return absl::OkStatus();
}

absl::Status HostsFile::ReadHeaders(base::TomlReader* reader, RegistryHost* host) {
  ASSIGN_OR_RETURN(const base::TomlValue* table, reader->Table("header"));
  if (table == nullptr) {
    return absl::OkStatus();
  }
  base::TomlReader headers(*table, name_);
  for (const auto& [name, value] : table->members) {
    std::vector<std::string> values;
    RETURN_IF_ERROR(headers.StringOrStrings(name, &values));
    if (!IsHeaderName(name)) {
      return headers.Invalid(name, "a header's name is malformed");
    }
    for (const std::string& one : values) {
      if (!IsHeaderValue(one)) {
        return headers.Invalid(name, base::StrCat("header ", name, " has control characters"));
      }
      host->headers.push_back(base::StrCat(name, ": ", one));
    }
  }
  return absl::OkStatus();
}

absl::Status HostsFile::ReadDialTimeout(base::TomlReader* reader, RegistryHost* host) {
  std::string text;
  RETURN_IF_ERROR(reader->String("dial_timeout", &text));
  if (text.empty()) {
    return absl::OkStatus();
  }
  absl::Duration timeout;
  if (!absl::ParseDuration(base::ToAbsl(text), &timeout) || timeout <= absl::ZeroDuration() ||
      timeout > kLongestDial) {
    return reader->Invalid("dial_timeout",
                           "dial_timeout is no time like \"5s\", above 0 and at most 1h");
  }
  host->connect_timeout_seconds =
      static_cast<int>(absl::ToInt64Seconds(absl::Ceil(timeout, absl::Seconds(1))));
  return absl::OkStatus();
}

absl::Status LoadCertificates(const std::string& directory, RegistryHost* host) {
  const auto absolute = [&](const std::string& path) {
    return path.starts_with('/') ? path : base::StrCat(directory, "/", path);
  };
  for (const std::string& file : host->authority_files) {
    RETURN_IF_ERROR(AddAuthority(absolute(file), &host->certificates));
  }
  if (!host->client_files.empty()) {
    const auto& [certificate, key] = host->client_files.front();
    RETURN_IF_ERROR(SetClientCertificate(absolute(certificate), key.empty() ? "" : absolute(key),
                                         &host->certificates));
  }
  return absl::OkStatus();
}

absl::StatusOr<RegistryHosts> LoadFrom(const std::string& directory) {
  const std::string path = directory + "/hosts.toml";
  absl::StatusOr<std::string> text = base::ReadFile(path, kMaxFile);
  RegistryHosts hosts;
  if (absl::IsNotFound(text.status())) {
    ASSIGN_OR_RETURN(hosts.server.certificates, LoadCertificateDirectory(directory));
  } else {
    RETURN_IF_ERROR(text.status());
    ASSIGN_OR_RETURN(hosts, ParseHostsToml(*text, path));
    for (RegistryHost& mirror : hosts.mirrors) {
      RETURN_IF_ERROR(base::Annotate(LoadCertificates(directory, &mirror), path));
    }
    RETURN_IF_ERROR(base::Annotate(LoadCertificates(directory, &hosts.server), path));
  }
  hosts.origin = directory;
  return hosts;
}

}  // namespace

absl::StatusOr<RegistryHosts> ParseHostsToml(std::string_view text, const std::string& name) {
  return HostsFile(name).Read(text);
}

absl::StatusOr<std::optional<RegistryHosts>> LoadRegistryHosts(
    const std::vector<std::string>& directories, const std::string& registry) {
  std::vector<std::string> names = {registry, "_default"};
  // A colon is not welcome in names on every file system. In "[::1]" it is no port's.
  const size_t colon = registry.rfind(':');
  if (colon != std::string::npos && registry.back() != ']') {
    names.insert(names.begin(),
                 base::StrCat(registry.substr(0, colon), "_", registry.substr(colon + 1), "_"));
  }
  for (const std::string& parent : directories) {
    for (const std::string& name : names) {
      const std::string directory = base::StrCat(parent, "/", name);
      if (base::Exists(directory)) {
        ASSIGN_OR_RETURN(RegistryHosts hosts, LoadFrom(directory));
        return std::optional<RegistryHosts>(std::move(hosts));
      }
    }
  }
  return std::optional<RegistryHosts>();
}

}  // namespace imageservice
