#include "imageservice/worker/test_certificates.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace imageservice::worker {
namespace {

template <typename T, void (*Free)(T*)>
struct Freed {
  void operator()(T* object) const { Free(object); }
};
using Certificate = std::unique_ptr<X509, Freed<X509, X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY, EVP_PKEY_free>>;
using Bio = std::unique_ptr<BIO, Freed<BIO, BIO_free_all>>;

void Must(bool condition) {
  if (!condition) {
    abort();
  }
}

Bio Memory(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

std::string Content(const Bio& bio) {
  char* data = nullptr;
  const long length = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(length));
}

void AddExtension(X509* certificate, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
  Must(extension != nullptr && X509_add_ext(certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

}  // namespace

TestCertificate MakeTestCertificate(const TestCertificateOptions& options) {
  static long serial = 1;
  const Key key(EVP_EC_gen("P-256"));
  const Certificate certificate(X509_new());
  X509* x509 = certificate.get();
  Must(key != nullptr && x509 != nullptr);
  Must(X509_set_version(x509, 2) == 1);
  ASN1_INTEGER_set(X509_get_serialNumber(x509), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(x509), options.begins_in_days * 86400L);
  X509_gmtime_adj(X509_getm_notAfter(x509), options.ends_in_days * 86400L);
  X509_set_pubkey(x509, key.get());
  X509_NAME* subject = X509_get_subject_name(x509);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(options.name.c_str()), -1, -1,
                             0);
  const bool is_address =
      std::ranges::all_of(options.name, [](char c) { return (c >= '0' && c <= '9') || c == '.'; });
  AddExtension(x509, NID_subject_alt_name, (is_address ? "IP:" : "DNS:") + options.name);
  AddExtension(x509, NID_basic_constraints, options.is_authority ? "critical,CA:TRUE" : "CA:FALSE");
  if (options.signer == nullptr) {
    X509_set_issuer_name(x509, subject);
    Must(X509_sign(x509, key.get(), EVP_sha256()) > 0);
  } else {
    const Certificate signer(
        PEM_read_bio_X509(Memory(options.signer->certificate).get(), nullptr, nullptr, nullptr));
    const Key signer_key(
        PEM_read_bio_PrivateKey(Memory(options.signer->key).get(), nullptr, nullptr, nullptr));
    Must(signer != nullptr && signer_key != nullptr);
    X509_set_issuer_name(x509, X509_get_subject_name(signer.get()));
    Must(X509_sign(x509, signer_key.get(), EVP_sha256()) > 0);
  }
  TestCertificate made;
  Bio out(BIO_new(BIO_s_mem()));
  Must(PEM_write_bio_X509(out.get(), x509) == 1);
  made.certificate = Content(out);
  out.reset(BIO_new(BIO_s_mem()));
  Must(PEM_write_bio_PrivateKey(out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
  made.key = Content(out);
  return made;
}

}  // namespace imageservice::worker
