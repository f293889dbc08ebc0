// Certificates made by the test, and a blocking TLS client.
#pragma once

#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

#include "base/files.h"
#include "base/strings.h"
#include "runtimeservice/streaming/test_door.h"

namespace streaming {

// A key with its certificate.
struct Identity {
  std::shared_ptr<EVP_PKEY> key;
  std::shared_ptr<X509> certificate;
};

// A certificate for `name`, signed by `authority`, or an authority itself when that is null.
inline Identity MakeIdentity(const std::string& name, const Identity* authority) {
  Identity made = {.key = {EVP_EC_gen("P-256"), EVP_PKEY_free},
                   .certificate = {X509_new(), X509_free}};
  X509* certificate = made.certificate.get();
  static int64_t serial = 0;
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set_int64(X509_get_serialNumber(certificate), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_set_pubkey(certificate, made.key.get());
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  const Identity& issuer = authority == nullptr ? made : *authority;
  X509_set_issuer_name(certificate, X509_get_subject_name(issuer.certificate.get()));
  X509_EXTENSION* extension =
      X509V3_EXT_conf_nid(nullptr, nullptr, NID_basic_constraints,
                          authority == nullptr ? "critical,CA:TRUE" : "critical,CA:FALSE");
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
  X509_sign(certificate, issuer.key.get(), EVP_sha256());
  return made;
}

// Replaces the files as an administrator does: by rename.
inline void WriteIdentity(const Identity& identity, const std::string& certificate,
                          const std::string& key) {
  const auto text = [](auto write) {
    const std::unique_ptr<BIO, int (*)(BIO*)> memory(BIO_new(BIO_s_mem()), BIO_free);
    write(memory.get());
    char* data = nullptr;
    const long size = BIO_get_mem_data(memory.get(), &data);
    return std::string(data, static_cast<size_t>(size));
  };
  const std::string pem =
      text([&](BIO* bio) { PEM_write_bio_X509(bio, identity.certificate.get()); });
  ASSERT_TRUE(base::ReplaceFile(certificate, pem, 0600, base::Durability::kVolatile).ok());
  if (!key.empty()) {
    const std::string secret = text([&](BIO* bio) {
      PEM_write_bio_PrivateKey(bio, identity.key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    });
    ASSERT_TRUE(base::ReplaceFile(key, secret, 0600, base::Durability::kVolatile).ok());
  }
}

// What a client does in its handshake.
struct TlsChoice {
  const Identity* certificate = nullptr;  // Null: shows none.
  int max_version = TLS1_3_VERSION;
  std::string ciphers;  // Of TLS 1.2; empty: the defaults.
};

class TlsTestClient {
 public:
  TlsTestClient(uint16_t port, const TlsChoice& choice)
      : socket_(port),
        context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free),
        ssl_(nullptr, SSL_free) {
    SSL_CTX_set_max_proto_version(context_.get(), choice.max_version);
    if (choice.max_version < TLS1_2_VERSION) {
      SSL_CTX_set_cipher_list(context_.get(), "DEFAULT@SECLEVEL=0");
    }
    if (!choice.ciphers.empty()) {
      SSL_CTX_set_cipher_list(context_.get(), choice.ciphers.c_str());
    }
    ssl_.reset(SSL_new(context_.get()));
    if (choice.certificate != nullptr) {
      SSL_use_certificate(ssl_.get(), choice.certificate->certificate.get());
      SSL_use_PrivateKey(ssl_.get(), choice.certificate->key.get());
    }
    SSL_set_fd(ssl_.get(), socket_.fd());
    connected_ = SSL_connect(ssl_.get()) == 1;
  }

  bool connected() const { return connected_; }
  SSL* ssl() { return ssl_.get(); }
  TestClient& socket() { return socket_; }
  std::string ServerName() {
    const std::unique_ptr<X509, void (*)(X509*)> shown(SSL_get1_peer_certificate(ssl_.get()),
                                                       X509_free);
    char name[64] = {};
    if (shown != nullptr) {
      X509_NAME_get_text_by_NID(X509_get_subject_name(shown.get()), NID_commonName, name,
                                sizeof(name));
    }
    return name;
  }
  void Send(const std::string& bytes) {
    SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()));
  }
  // What comes until the server's close_notify (then `closed` is true) or the connection's end.
  std::string ReceiveAll(bool* closed = nullptr) {
    std::string all;
    char byte = 0;
    while (SSL_read(ssl_.get(), &byte, 1) == 1) {
      all += byte;
    }
    if (closed != nullptr) {
      *closed = (SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN) != 0;
    }
    return all;
  }

 private:
  TestClient socket_;
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context_;
  std::unique_ptr<SSL, void (*)(SSL*)> ssl_;
  bool connected_ = false;
};

}  // namespace streaming
