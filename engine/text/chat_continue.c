/* An assistant's last message that is to be gone on with: the prompt ends where its content does. */
#include "chat.h"

#include <stdlib.h>
#include <string.h>

static const char blanks[] = " \t\r\n\v\f";

int chat_continue(json_t *context, char **ending, struct err *err)
{
    json_t *messages = json_object_get(context, "messages");
    size_t last = json_array_size(messages) - 1;
    const json_t *message = json_array_get(messages, last);
    const char *content = json_string_value(json_object_get(message, "content"));
    *ending = NULL;
    if (strcmp(json_string_value(json_object_get(message, "role")), "assistant") != 0 ||
        json_object_get(message, "tool_calls"))
        return err_set(err, ERR_INVALID, "messages[%zu] must be an assistant's text to be continued", last);
    content += strspn(content, blanks);
    size_t length = strlen(content);
    while (length > 0 && strchr(blanks, content[length - 1]))
        length--;
    if (length > 0)
        *ending = strndup(content, length);
    else
        json_array_remove(messages, last); /* nothing is said yet: the template opens the turn */
    if ((length > 0 && !*ending) || json_object_set_new(context, "add_generation_prompt", json_boolean(length == 0)))
        return err_set(err, ERR_NOMEM, "out of memory for a conversation");
    return 0;
}

int chat_cut(struct template_output *output, const char *ending, struct err *err)
{
    size_t n = strlen(ending);
    for (size_t at = output->length; n > 0 && at >= n; at--) {
        if (memcmp(output->text + at - n, ending, n) != 0)
            continue;
        output->length = at;
        output->text[at] = '\0';
        return 0;
    }
    return err_set(err, ERR_INVALID, "the chat template does not show the last message as it is: it cannot be continued");
}
