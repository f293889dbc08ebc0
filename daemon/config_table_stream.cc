// The keys of [crisp.api] about the streaming server.
#include "daemon/config_checks.h"
#include "daemon/config_keys.h"

namespace crispd {
namespace {

constexpr std::string_view kApi = "crisp.api";

const ConfigKey<Config> kStreamKeys[] = {
    {.table = kApi,
     .name = "stream_path",
     .field = &Config::stream_path,
     .help = "The program that serves exec, attach and port-forward; it is started when it is "
             "needed. Empty: crisp-stream beside crisp, else in /usr/libexec/crisp.",
     .check_text = CheckOptionalPath},
    {.table = kApi,
     .name = "stream_address",
     .field = &Config::stream_address,
     .help = "The IP address on which exec, attach and port-forward are served. The kubelet, which "
             "connects to it, runs on the same node.",
     .check_text = CheckIpAddress},
    {.table = kApi,
     .name = "stream_port",
     .field = &Config::stream_port,
     .help = "Its port. 0: a free one.",
     .check_number = CheckPort},
    {.table = kApi,
     .name = "stream_enable_tls",
     .field = &Config::stream_enable_tls,
     .help = "Serve them over TLS, with stream_tls_cert and stream_tls_key."},
    {.table = kApi,
     .name = "stream_tls_cert",
     .field = &Config::stream_tls_cert,
     .help = "The file with the certificate and its chain, in PEM. It is read again when it "
             "changes.",
     .check_text = CheckOptionalPath},
    {.table = kApi,
     .name = "stream_tls_key",
     .field = &Config::stream_tls_key,
     .help = "The file with the certificate's private key, likewise.",
     .check_text = CheckOptionalPath},
    {.table = kApi,
     .name = "stream_tls_ca",
     .field = &Config::stream_tls_ca,
     .help = "The file with the authorities that clients' certificates must come from, likewise. "
             "Empty: clients need none.",
     .check_text = CheckOptionalPath},
    {.table = kApi,
     .name = "tls_min_version",
     .field = &Config::tls_min_version,
     .help = "The oldest version of TLS that is spoken: \"VersionTLS12\" or \"VersionTLS13\".",
     .check_text = CheckTlsVersion},
    {.table = kApi,
     .name = "tls_cipher_suites",
     .field = &Config::tls_cipher_suites,
     .help = "The cipher suites of TLS 1.2, such as \"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\". "
             "None: OpenSSL's defaults.",
     .flag = "tls-cipher-suite",
     .check_text = CheckCipherSuite},
    {.table = kApi,
     .name = "stream_idle_timeout",
     .field = &Config::stream_idle_timeout,
     .help = "Seconds after which a connection on which nothing was sent is closed. 0: never.",
     .check_number = CheckSeconds},
    {.table = kApi,
     .name = "stream_creation_timeout",
     .field = &Config::stream_creation_timeout,
     .help = "Seconds that a client has for its handshake, and then to open all its streams.",
     .check_number = CheckSomeSeconds},
    {.table = kApi,
     .name = "stream_linger_timeout",
     .field = &Config::stream_linger_timeout,
     .help =
         "Seconds without a connection and an unused URL after which the program ends. The next "
         "request starts it again.",
     .check_number = CheckSomeSeconds},
    {.table = kApi,
     .name = "stream_max_sessions",
     .field = &Config::stream_max_sessions,
     .help = "Connections at once; one more is refused.",
     .check_number = CheckStreamCount},
    {.table = kApi,
     .name = "stream_max_streams",
     .field = &Config::stream_max_streams,
     .help = "Streams at once of one connection; a forwarded connection takes two.",
     .check_number = CheckStreamCount},
    {.table = kApi,
     .name = "stream_max_urls",
     .field = &Config::stream_max_urls,
     .help = "URLs that were given out and not used yet; each is good for a minute. One more "
             "request is refused.",
     .check_number = CheckStreamCount},
    {.table = kApi,
     .name = "stream_max_frame_size",
     .field = &Config::stream_max_frame_size,
     .help = "The longest frame in bytes that a client may send.",
     .check_number = CheckFrameSize},
    {.table = kApi,
     .name = "stream_max_header_size",
     .field = &Config::stream_max_header_size,
     .help = "The longest header in bytes that a client may send, unpacked.",
     .check_number = CheckHeaderSize},
};

}  // namespace

std::span<const ConfigKey<Config>> StreamKeys() { return kStreamKeys; }

}  // namespace crispd
