/* SPDX-License-Identifier: BSD-3-Clause */
/* list.h - intrusive doubly linked list; a removed link may be removed again. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stddef.h>

struct snti_link { struct snti_link *next, *prev; };

#define snti_container(link, type, member) ((type *)((char *)(link) - offsetof(type, member)))
#define snti_list_each(link, list) \
	for (struct snti_link *link = (list)->next; link != (list); link = link->next)

static inline void snti_list_init(struct snti_link *list)
{
	list->next = list->prev = list;
}

static inline int snti_list_empty(const struct snti_link *list)
{
	return list->next == list;
}

static inline void snti_list_append(struct snti_link *list, struct snti_link *link)
{
	link->prev = list->prev;
	link->next = list;
	list->prev->next = link;
	list->prev = link;
}

static inline void snti_list_remove(struct snti_link *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	snti_list_init(link);
}

#endif
