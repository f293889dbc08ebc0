// For tests: certificates good and bad, made on the spot.
#pragma once

#include <string>

namespace imageservice::worker {

// A certificate and its key, as PEM.
struct TestCertificate {
  std::string certificate;
  std::string key;
};

struct TestCertificateOptions {
  std::string name = "127.0.0.1";  // An address or a host name; of the subject, too.
  int begins_in_days = -1;
  int ends_in_days = 2;
  bool is_authority = false;
  const TestCertificate* signer = nullptr;  // Nobody: by itself.
};

TestCertificate MakeTestCertificate(const TestCertificateOptions& options = {});

}  // namespace imageservice::worker
