/* An echo server on level-triggered epoll, as many tutorials have it: one accept, one read and one write for each event.
 *
 *     cc -O2 -Wall -Wextra -o echo_epoll echo_epoll.c
 */
#define _GNU_SOURCE /* accept4 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *call)
{
    perror(call);
    exit(1);
}

static int listen_somewhere(void)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (listener < 0)
        fail("socket");
    if (bind(listener, (struct sockaddr *)&address, length) < 0)
        fail("bind");
    if (listen(listener, SOMAXCONN) < 0)
        fail("listen");
    if (getsockname(listener, (struct sockaddr *)&address, &length) < 0)
        fail("getsockname");
    printf("listening 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout); /* standard output that is a pipe is written in blocks */
    return listener;
}

static void watch(int epoll, int socket)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = socket};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event) < 0)
        close(socket);
}

static void echo(int socket)
{
    char buffer[4096];
    ssize_t count = read(socket, buffer, sizeof buffer);
    if (count < 0 && errno == EAGAIN)
        return;
    if (count <= 0)
        close(socket);
    else if (write(socket, buffer, count) < 0 && errno != EAGAIN)
        close(socket); /* what the kernel does not take is lost */
}

int main(void)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC), listener = listen_somewhere();
    struct epoll_event events[64];
    signal(SIGPIPE, SIG_IGN);
    watch(epoll, listener);
    for (;;) {
        int count = epoll_wait(epoll, events, 64, -1);
        if (count < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            int socket = events[i].data.fd;
            if (socket != listener)
                echo(socket);
            else if ((socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
                watch(epoll, socket);
        }
    }
}
