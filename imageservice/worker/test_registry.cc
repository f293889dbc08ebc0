#include "imageservice/worker/test_registry.h"

#include <arpa/inet.h>
#include <crypt.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/digest.h"

namespace imageservice::worker {
namespace {

using base::Json;

void MustWrite(const std::string& path, const std::string& bytes) {
  if (!base::ReplaceFile(path, bytes, 0600, base::Durability::kVolatile).ok()) {
    abort();
  }
}

int Listen(int* port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(fd, 16) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    abort();
  }
  *port = ntohs(address.sin_port);
  return fd;
}

bool CanConnect(int port) {
  const base::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
}

// A line of an htpasswd file with bcrypt, the only scheme the registry takes.
std::string PasswordLine(const std::string& password) {
  crypt_data data = {};
  const char* hash = crypt_r(password.c_str(), "$2y$05$abcdefghijklmnopqrstuu", &data);
  return base::StrCat("crisp:", hash, "\n");
}

Json Descriptor(const TestLayout::Blob& blob) {
  return {{"mediaType", blob.media_type}, {"digest", blob.digest}, {"size", blob.size}};
}

// A certificate for 127.0.0.1, signed by itself, in cert.pem, with key.pem.
absl::Status MakeCertificate(const std::string& directory) {
  base::Command command;
  command.argv = {"/usr/bin/openssl",
                  "req",
                  "-x509",
                  "-newkey",
                  "rsa:2048",
                  "-nodes",
                  "-days",
                  "2",
                  "-subj",
                  "/CN=127.0.0.1",
                  "-addext",
                  "subjectAltName=IP:127.0.0.1",
                  "-keyout",
                  directory + "/key.pem",
                  "-out",
                  directory + "/cert.pem"};
  command.env = {"PATH=/usr/bin:/bin"};
  const base::Context ctx = base::Context().WithTimeout(absl::Seconds(60));
  ASSIGN_OR_RETURN(const base::CommandResult result, base::RunCommand(ctx, command));
  return result.exit.code == 0 ? absl::OkStatus() : absl::UnknownError(result.err);
}

}  // namespace

absl::StatusOr<std::unique_ptr<TestRegistry>> TestRegistry::Start(
    const std::string& password, Scheme scheme, const std::string& client_authority) {
  auto registry = std::unique_ptr<TestRegistry>(new TestRegistry());
  const std::string& path = registry->directory_.path();
  close(Listen(&registry->port_));
  registry->password_ = password;
  std::string config = base::StrCat(
      "version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: ", path,
      "/data}\nhttp:\n  addr: '", registry->host(), "'\n");
  if (scheme == Scheme::kHttps) {
    registry->scheme_ = "https://";
    RETURN_IF_ERROR(MakeCertificate(path));
    config +=
        base::StrCat("  tls:\n    certificate: ", path, "/cert.pem\n    key: ", path, "/key.pem\n");
    if (!client_authority.empty()) {
      MustWrite(path + "/clients.pem", client_authority);
      config += base::StrCat("    clientcas: [", path, "/clients.pem]\n");
    }
  }
  if (!password.empty()) {
    MustWrite(path + "/htpasswd", PasswordLine(password));
    config += base::StrCat("auth:\n  htpasswd: {realm: test, path: ", path, "/htpasswd}\n");
  }
  MustWrite(path + "/config.yml", config);
  base::Command command;
  command.argv = {"/usr/bin/docker-registry", "serve", path + "/config.yml"};
  ASSIGN_OR_RETURN(const base::UniqueFd log,
                   base::Open(path + "/access.log", O_WRONLY | O_CREAT | O_APPEND, 0600));
  command.stdout_fd = log.get();
  ASSIGN_OR_RETURN(base::Subprocess process, base::Subprocess::Spawn(command));
  registry->process_ = std::make_unique<base::Subprocess>(std::move(process));
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!CanConnect(registry->port_)) {
    base::ExitState state;
    if (registry->process_->TryReap(&state) || absl::Now() > deadline) {
      return absl::UnavailableError("the registry does not start");
    }
    sched_yield();
  }
  return registry;
}

std::string TestRegistry::certificate() const {
  return base::ReadFile(directory_.path() + "/cert.pem").value_or("");
}

std::string TestRegistry::access_log() const {
  return base::ReadFile(directory_.path() + "/access.log").value_or("");
}

std::string TestRegistry::host() const { return base::StrCat("127.0.0.1:", port_); }

absl::Status TestRegistry::Push(const std::string& path, const std::string& name,
                                const std::vector<std::string>& options) {
  base::Command command;
  command.argv = {"/usr/bin/skopeo", "--insecure-policy",       "copy",
                  "--quiet",         "--dest-tls-verify=false", "--preserve-digests"};
  if (!password_.empty()) {
    command.argv.push_back("--dest-creds=crisp:" + password_);
  }
  for (const std::string& option : options) {
    if (option.starts_with("--format")) {
      std::erase(command.argv, "--preserve-digests");
    }
    command.argv.push_back(option);
  }
  command.argv.push_back("oci:" + path + ":image");
  command.argv.push_back(base::StrCat("docker://", host(), "/", name));
  command.env = {"HOME=" + directory_.path(), "PATH=/usr/bin:/bin"};
  const base::Context ctx = base::Context().WithTimeout(absl::Seconds(60));
  ASSIGN_OR_RETURN(const base::CommandResult result, base::RunCommand(ctx, command));
  return result.exit.code == 0 ? absl::OkStatus() : absl::UnknownError(result.err);
}

TestLayout::TestLayout(std::string path) : path_(std::move(path)) {
  if (!base::MakeDirectories(path_ + "/blobs/sha256").ok()) {
    abort();
  }
  MustWrite(path_ + "/oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
}

TestLayout::Blob TestLayout::AddBlob(const std::string& bytes, const std::string& media_type) {
  const std::string hex = Sha256Hex(bytes);
  MustWrite(base::StrCat(path_, "/blobs/sha256/", hex), bytes);
  blobs_["sha256:" + hex] = bytes;
  return {media_type, "sha256:" + hex, bytes.size()};
}

TestLayout::Blob TestLayout::AddImage(const std::vector<Layer>& layers, const std::string& os,
                                      const std::string& architecture) {
  Json diff_ids = Json::array();
  Json descriptors = Json::array();
  for (const Layer& layer : layers) {
    diff_ids.push_back("sha256:" + Sha256Hex(layer.archive));
    descriptors.push_back(Descriptor(AddBlob(layer.blob, layer.media_type)));
  }
  const Json config = {{"os", os},
                       {"architecture", architecture},
                       {"config", {{"Cmd", {"/bin/true"}}}},
                       {"rootfs", {{"type", "layers"}, {"diff_ids", diff_ids}}}};
  const Blob config_blob =
      AddBlob(base::DumpJson(config), "application/vnd.oci.image.config.v1+json");
  const Json manifest = {{"schemaVersion", 2},
                         {"mediaType", "application/vnd.oci.image.manifest.v1+json"},
                         {"config", Descriptor(config_blob)},
                         {"layers", descriptors}};
  return AddBlob(base::DumpJson(manifest), "application/vnd.oci.image.manifest.v1+json");
}

TestLayout::Blob TestLayout::AddArtifact(const std::vector<File>& files, const Json& patch) {
  Json layers = Json::array();
  for (const File& file : files) {
    Json layer = Descriptor(AddBlob(file.content, "application/octet-stream"));
    if (!file.title.empty()) {
      layer["annotations"] = {{"org.opencontainers.image.title", file.title}};
    }
    layers.push_back(std::move(layer));
  }
  Json manifest = {{"schemaVersion", 2},
                   {"mediaType", "application/vnd.oci.image.manifest.v1+json"},
                   {"artifactType", "application/vnd.example.model"},
                   {"config", Descriptor(AddBlob("{}", "application/vnd.oci.empty.v1+json"))},
                   {"layers", std::move(layers)}};
  manifest.merge_patch(patch);
  return AddBlob(base::DumpJson(manifest), "application/vnd.oci.image.manifest.v1+json");
}

TestLayout::Blob TestLayout::AddIndex(const std::map<std::string, Blob>& images) {
  Json manifests = Json::array();
  for (const auto& [architecture, blob] : images) {
    Json entry = Descriptor(blob);
    entry["platform"] = {{"os", "linux"}, {"architecture", architecture}};
    manifests.push_back(entry);
  }
  const Json index = {{"schemaVersion", 2},
                      {"mediaType", "application/vnd.oci.image.index.v1+json"},
                      {"manifests", manifests}};
  return AddBlob(base::DumpJson(index), "application/vnd.oci.image.index.v1+json");
}

void TestLayout::Finish(const Blob& root) {
  Json entry = Descriptor(root);
  entry["annotations"] = {{"org.opencontainers.image.ref.name", "image"}};
  MustWrite(path_ + "/index.json",
            base::DumpJson(Json{{"schemaVersion", 2}, {"manifests", Json::array({entry})}}));
}

TestLayout::Layer PlainLayer(const std::vector<TarEntry>& entries) {
  const std::string archive = Tar(entries);
  return {archive, archive, "application/vnd.oci.image.layer.v1.tar"};
}

TestLayout::Layer GzipLayer(const std::vector<TarEntry>& entries) {
  const std::string archive = Tar(entries);
  return {archive, Gzip(archive), "application/vnd.oci.image.layer.v1.tar+gzip"};
}

TestLayout::Layer ZstdLayer(const std::vector<TarEntry>& entries) {
  const std::string archive = Tar(entries);
  return {archive, Zstd(archive), "application/vnd.oci.image.layer.v1.tar+zstd"};
}

std::string BigText() {
  std::string text;
  uint64_t state = 1;
  while (text.size() < (3 << 20)) {
    state = state * 6364136223846793005 + 1442695040888963407;
    text += std::to_string(state);
  }
  return text;
}

// Three layers of three compressions.
TestLayout::Blob AddSampleImage(TestLayout* layout, const std::string& architecture) {
  return layout->AddImage(
      {GzipLayer({{.name = "etc/", .type = '5'},
                  {.name = "etc/motd", .content = "gzip", .mode = 0640, .uid = 7},
                  {.name = "e\xcc\x81", .content = "x", .pax = {{"path", "e\xcc\x81"}}}}),
       ZstdLayer({{.name = "big", .content = BigText()}, {.name = "etc/.wh.motd"}}),
       PlainLayer({{.name = "su", .content = "plain", .mode = 04755}, {.name = "dir/f"}})},
      "linux", architecture);
}

}  // namespace imageservice::worker
