// A web server for test images: answers every request with one page. Its first process is called
// "nginx: master process", and its pid is in /var/run/nginx.pid, as tests of PID namespaces expect.
//
// usage: nginx [PORT]
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static const char kPage[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 33\r\nConnection: close\r\n\r\n"
    "<html><h1>It works!</h1></html>\r\n";

static void WritePid(void) {
  FILE* file = fopen("/var/run/nginx.pid", "w");
  if (file != NULL) {
    fprintf(file, "%d\n", (int)getpid());
    fclose(file);
  }
}

static int Listen(int port) {
  // One IPv6 socket serves both families; without IPv6 an IPv4 one does.
  int yes = 1, no = 0;
  int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0) {
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (bind(fd, (struct sockaddr*)&any, sizeof any) == 0 && listen(fd, 64) == 0) return fd;
    close(fd);
  }
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(fd, (struct sockaddr*)&any, sizeof any) != 0 || listen(fd, 64) != 0) return -1;
  return fd;
}

static void Serve(int client) {
  struct timeval timeout = {.tv_sec = 10};
  setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  char request[4096];
  size_t have = 0;
  while (have < sizeof request - 1) {
    ssize_t got = read(client, request + have, sizeof request - 1 - have);
    if (got <= 0) return;
    have += (size_t)got;
    request[have] = '\0';
    if (strstr(request, "\r\n\r\n") != NULL) break;
  }
  if (write(client, kPage, sizeof kPage - 1) < 0) return;
  shutdown(client, SHUT_WR);
}

int main(int argc, char** argv) {
  const char* port = argc > 1 ? argv[1] : "80";
  if (strncmp(argv[0], "nginx: ", 7) != 0) {
    // By its own path, so that the command name stays "nginx".
    char self[256] = "";
    if (readlink("/proc/self/exe", self, sizeof self - 1) > 0) {
      execl(self, "nginx: master process", port, (char*)NULL);
    }
  }
  signal(SIGPIPE, SIG_IGN);
  signal(SIGTERM, exit);  // As the first process of a PID namespace it has no default actions.
  signal(SIGQUIT, exit);
  WritePid();
  int fd = Listen(atoi(port));
  if (fd < 0) {
    perror("listen");
    return 1;
  }
  printf("httpd: serving port %s\n", port);
  fflush(stdout);
  for (;;) {
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0) continue;
    Serve(client);
    close(client);
  }
}
