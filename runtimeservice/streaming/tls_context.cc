#include "runtimeservice/streaming/tls_context.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include <string>
#include <string_view>

#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace streaming {
namespace {

// OpenSSL's reason for its last failure, which is taken from its queue.
std::string LastReason() {
  // The last is the most particular: "no start line", "key values mismatch".
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  const char* words = ERR_reason_error_string(code);
  return words == nullptr ? "OpenSSL refuses it" : words;
}

absl::Status Refused(std::string_view setting, std::string_view value, std::string_view reason) {
  return absl::InvalidArgumentError(base::StrCat(setting, " ", value, ": ", reason));
}

// Of a password that a key is encrypted with there is none, and nobody to ask.
int NoPassword(char*, int, int, void*) { return -1; }

absl::Status SetVersion(SSL_CTX* context, const crisp::stream::Settings& settings) {
  const std::string& name = settings.tls_min_version();
  int version = TLS1_2_VERSION;
  if (name == "VersionTLS13") {
    version = TLS1_3_VERSION;
  } else if (!name.empty() && name != "VersionTLS12") {
    return Refused("tls_min_version", name, "is neither VersionTLS12 nor VersionTLS13");
  }
  SSL_CTX_set_min_proto_version(context, version);
  return absl::OkStatus();
}

// The suites of TLS 1.3 have one name, IANA's, and a list of their own. A list without a suite of
// a version leaves that version its defaults.
absl::Status SetCipherSuites(SSL_CTX* context, const crisp::stream::Settings& settings) {
  std::string tls12;
  std::string tls13;
  for (const std::string& name : settings.tls_cipher_suites()) {
    const std::string_view native = OPENSSL_cipher_name(name.c_str());
    if (native == "(NONE)") {
      return Refused("tls_cipher_suites", name, "is not known to OpenSSL");
    }
    std::string& list = native == name ? tls13 : tls12;
    list += list.empty() ? "" : ":";
    list += native;
  }
  if (!tls12.empty() && SSL_CTX_set_cipher_list(context, tls12.c_str()) != 1) {
    return Refused("tls_cipher_suites", tls12, LastReason());
  }
  if (!tls13.empty() && SSL_CTX_set_ciphersuites(context, tls13.c_str()) != 1) {
    return Refused("tls_cipher_suites", tls13, LastReason());
  }
  return absl::OkStatus();
}

// OpenSSL says "system lib" of a file that is not there.
absl::Status Readable(std::string_view setting, const std::string& path) {
  const absl::StatusOr<base::UniqueFd> file = base::Open(path, O_RDONLY);
  if (file.ok()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      base::StrCat(setting, ": ", base::ToStd(file.status().message())));
}

absl::Status LoadFiles(SSL_CTX* context, const crisp::stream::Settings& settings) {
  const std::string& certificate = settings.tls_certificate();
  RETURN_IF_ERROR(Readable("stream_tls_cert", certificate));
  if (SSL_CTX_use_certificate_chain_file(context, certificate.c_str()) != 1) {
    return Refused("stream_tls_cert", certificate, LastReason());
  }
  const std::string& key = settings.tls_key();
  RETURN_IF_ERROR(Readable("stream_tls_key", key));
  if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1) {
    return Refused("stream_tls_key", key, LastReason());
  }
  const std::string& authority = settings.tls_client_ca();
  if (authority.empty()) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(Readable("stream_tls_ca", authority));
  STACK_OF(X509_NAME)* names = SSL_load_client_CA_file(authority.c_str());
  if (names == nullptr || SSL_CTX_load_verify_file(context, authority.c_str()) != 1) {
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return Refused("stream_tls_ca", authority, LastReason());
  }
  SSL_CTX_set_client_CA_list(context, names);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return absl::OkStatus();
}

absl::StatusOr<TlsContextPtr> BuildContext(const crisp::stream::Settings& settings) {
  ERR_clear_error();
  TlsContextPtr context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  if (context == nullptr) {
    return absl::ResourceExhaustedError(base::StrCat("TLS: ", LastReason()));
  }
  SSL_CTX* raw = context.get();
  // A connection lives long and is made once: nothing is gained by resuming one, and a ticket key
  // would be one more secret to keep.
  SSL_CTX_set_options(raw, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_num_tickets(raw, 0);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(raw, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
  // Without it OpenSSL would read on behind each record that carries no data, for as long as a
  // client sends nothing else.
  SSL_CTX_clear_mode(raw, SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_default_passwd_cb(raw, NoPassword);
  RETURN_IF_ERROR(SetVersion(raw, settings));
  RETURN_IF_ERROR(SetCipherSuites(raw, settings));
  RETURN_IF_ERROR(LoadFiles(raw, settings));
  return context;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TlsContext>> TlsContext::Make(
    const crisp::stream::Settings& settings) {
  std::unique_ptr<TlsContext> made(new TlsContext(settings));
  made->tried_ = made->LookAtFiles();
  ASSIGN_OR_RETURN(made->current_, BuildContext(settings));
  return made;
}

TlsContextPtr TlsContext::Current() {
  const Identities now = LookAtFiles();
  if (now == tried_) {
    return current_;
  }
  tried_ = now;
  absl::StatusOr<TlsContextPtr> fresh = BuildContext(settings_);
  if (fresh.ok()) {
    current_ = *std::move(fresh);
    base::LogInfo("TLS certificate, key and client CA were read again: their files have changed");
  } else {
    base::LogWarning("TLS goes on with the certificates it has: ",
                     base::ToStd(fresh.status().message()));
  }
  return current_;
}

TlsContext::Identities TlsContext::LookAtFiles() const {
  const std::string* const paths[] = {&settings_.tls_certificate(), &settings_.tls_key(),
                                      &settings_.tls_client_ca()};
  Identities found;
  for (size_t i = 0; i < found.size(); ++i) {
    struct stat file = {};
    if (!paths[i]->empty() && stat(paths[i]->c_str(), &file) == 0) {
      found[i] = {.device = file.st_dev,
                  .inode = file.st_ino,
                  .size = file.st_size,
                  .changed_nanos = file.st_ctim.tv_sec * 1'000'000'000 + file.st_ctim.tv_nsec};
    }
  }
  return found;
}

}  // namespace streaming
