/* The yardstick: echo on plain epoll, level-triggered, one recv and one send a message. It has no timers, no limits and no
 * buffers: while a peer's socket is full, the server waits for that peer and serves no other. */
#define _GNU_SOURCE
#include "address.h"
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>

#ifndef EVENTS
#define EVENTS 1024
#endif

static char buffer[65536];

/* Sends all bytes. Returns 0 if the connection failed. */
static int send_all(int socket, const char *bytes, ssize_t count) {
    while (count > 0) {
        ssize_t sent = send(socket, bytes, count, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd room = {.fd = socket, .events = POLLOUT};
            poll(&room, 1, -1);
            continue;
        }
        if (sent < 0)
            return 0;
        bytes += sent;
        count -= sent;
    }
    return 1;
}

int main(int argc, char **argv) {
    int listener = listen_on(argc > 1 ? argv[1] : "127.0.0.1:0");
    int poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int socket = events[i].data.fd;
            if (socket == listener) {
                int client;
                while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                    struct epoll_event input = {.events = EPOLLIN, .data.fd = client};
                    epoll_ctl(poller, EPOLL_CTL_ADD, client, &input);
                }
                continue;
            }
            ssize_t got = recv(socket, buffer, sizeof buffer, 0);
            if (got < 0 && errno == EAGAIN)
                continue;
            if (got <= 0 || !send_all(socket, buffer, got))
                close(socket);
        }
    }
}
