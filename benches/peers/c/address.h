/* The servers in C share this: the address, the listening socket, the line that says where it listens. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* HOST:PORT, IPv4. */
static struct sockaddr_in parse_address(const char *text) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[64] = "";
    const char *colon = strrchr(text, ':');
    if (!colon || colon - text >= (long)sizeof host)
        exit(2);
    memcpy(host, text, colon - text);
    inet_pton(AF_INET, host, &address.sin_addr);
    address.sin_port = htons(atoi(colon + 1));
    return address;
}

static void announce(int listener) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("listening %s:%d\n", inet_ntoa(address.sin_addr), ntohs(address.sin_port));
    fflush(stdout);
}

/* Accepted sockets inherit TCP_NODELAY from the listener, as they do in doorkeeper: one setsockopt, not one a connection. */
__attribute__((unused)) static int listen_on(const char *text) {
    struct sockaddr_in address = parse_address(text);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) {
        perror(text);
        exit(1);
    }
    announce(listener);
    return listener;
}
