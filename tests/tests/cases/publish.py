# Publishes one job and prints its result: publish.py SERVER SUBJECT RESULT_SUBJECT BODY. No code of Sourdough's is involved.
import asyncio
import sys

import nats


async def main(server, subject, result_subject, body):
    connection = await nats.connect(server)
    results = await connection.subscribe(result_subject)
    await connection.publish(subject, body.encode())
    result = await results.next_msg(timeout=600)
    print(result.data.decode())
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
